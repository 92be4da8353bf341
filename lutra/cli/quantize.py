"""lutra quantize: a trained network as an int8 file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

import lutra
from lutra.cli.options import (
    FILE,
    FOLDER,
    WEIGHTS,
    as_json,
    named_network,
    torch_threads_option,
    weights_option,
)
from lutra.cli.output import (
    line,
    note,
    note_next,
    print_json,
    print_table,
    progress,
    watch,
    with_eta,
)
from lutra.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lutra.cli.output import Report
    from lutra.supernets.data.base import Split
    from lutra.supernets.quantization.comparison import Timed


@click.command("quantize")
@click.argument("result", type=WEIGHTS, required=False)
@click.option("-o", "--output", type=FILE, required=True, help="The model file: .tflite or .onnx.")
@weights_option
@click.option("--data", type=FOLDER, required=True, help="Training images.")
@click.option(
    "--ranges",
    type=click.Choice(["max", "percentile", "kl", "trained"]),
    default="max",
    show_default=True,
    help="How feature maps get their ranges.",
)
@click.option("--percentile", type=float, help="How much of the values, with that rule (99.99).")
@click.option(
    "--epochs",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of training in simulated int8, for trained ranges.",
)
@click.option(
    "--observer",
    type=click.Choice(["moving", "window-mean", "window-max"]),
    default="moving",
    show_default=True,
    help="How trained ranges follow the batches.",
)
@click.option("--learning-rate", type=float, default=0.005, show_default=True, help="At the start.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of training.")
@torch_threads_option
@click.option("--network", type=FILE, help="Keep what was trained, weights and ranges, here.")
@click.option("--compare", is_flag=True, help="Print it beside fp32 and the other rules.")
@click.option("--test", is_flag=True, help="Compare on the test images too.")
@click.option("--device", "device_spec", help="Compare latency too, on this device, such as cpu.")
@as_json
def command(
    result: Path | None,
    output: Path,
    checkpoint: Path,
    data: Path,
    ranges: str,
    percentile: float | None,
    epochs: int,
    observer: str,
    learning_rate: float,
    seed: int,
    network: Path | None,
    compare: bool,
    test: bool,
    device_spec: str | None,
    as_json: bool,
) -> None:
    """Write a trained network as an int8 file, with ranges by rule or trained.

    RESULT is a search's, or an architecture's JSON: the network out of a supernet's --checkpoint;
    it is not needed where that is one network's file.
    """
    if test and not compare:
        raise UsageError("test images are for the comparison: ask for it (--compare)")
    if device_spec is not None:
        from lutra.profiler.networks.model_files import require_timing
        from lutra.supernets.quantization.quantize import format_of_output

        if not compare:
            raise UsageError("a device is for the comparison: ask for it (--compare)")
        require_timing(device_spec, format_of_output(output))
    architecture = named_network(result)
    with progress("training") as report:
        metadata = lutra.quantize(
            output,
            checkpoint,
            data,
            architecture,
            ranges=ranges,
            percentile=percentile,
            epochs=epochs,
            observer=observer,
            learning_rate=learning_rate,
            seed=seed,
            network=network,
            on_step=with_eta(report),
        )
    rows = []
    if compare:
        from lutra.supernets.quantization.comparison import compared

        splits: list[Split] = ["validation", "test"] if test else ["validation"]
        with progress("comparing") as report:
            rows = compared(
                output,
                checkpoint,
                data,
                architecture,
                splits=splits,
                timed=None if device_spec is None else _timed_on(device_spec, report),
                on_step=with_eta(report),
            )
    if as_json:
        print_json({**metadata, **({"compared": [row.to_json() for row in rows]} if rows else {})})
        return
    if rows:
        columns = ["ranges", *(f"top-1 % ({split})" for split in rows[0].accuracies), "bytes"]
        timed = rows[0].latency
        columns += [] if timed is None else timed._fields
        print_table(columns, [row.cells() for row in rows])
    else:
        line(str(output))
    for name in ("ranges", "calibration", "statistics"):
        if name in metadata:
            note(f"{name}: {metadata[name]}")
    if not compare:
        words = ["lutra", "evaluate", str(output), "--data", str(data), "--split", "validation"]
        note_next(shlex.join(words))


def _timed_on(device_spec: str, report: Report) -> Timed:
    from lutra.profiler.networks.model_files import time_models
    from lutra.supernets.quantization.comparison import Latency

    def timed(files: Sequence[Path]) -> list[Latency]:
        found = time_models(device_spec, files, watch=watch(report, spec=device_spec))
        return [Latency(each.latency_ms, each.ci_low_ms, each.ci_high_ms) for each in found]

    return timed
