"""lutra shrink: from trained weights to a small file within its budget."""

from __future__ import annotations

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
from lutra.cli.output import note, print_json, print_table, progress, watch, with_eta

if TYPE_CHECKING:
    from lutra.search.training.shrink import Shrunk

_OVER_BUDGET = 3


@click.command("shrink")
@click.argument("result", type=WEIGHTS, required=False)
@weights_option
@click.option("--data", type=FOLDER, required=True, help="Folder of images with labels.")
@click.option("--table", type=FILE, required=True, help="Of the device, runtime and precision.")
@click.option("--max-latency", required=True, help="The budget, such as 5ms or 850us.")
@click.option("-o", "--output", type=FOLDER, required=True, help="Folder for all that is made.")
@click.option(
    "--steps",
    default="prune,distill",
    show_default=True,
    help="Of prune, fine-tune, distill, qat and cluster, in their order. Several times prune: by"
    " equal ratios down to the budget.",
)
@click.option(
    "--epochs", type=click.IntRange(1), default=1, show_default=True, help="Of each training."
)
@click.option("--images", type=click.IntRange(1), help="Validation images for sensitivities.")
@click.option(
    "--sample", default="60s", show_default=True, help="Time to measure narrower ops for."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@torch_threads_option
@as_json
def command(
    result: Path | None,
    checkpoint: Path,
    data: Path,
    table: Path,
    max_latency: str,
    output: Path,
    steps: str,
    epochs: int,
    images: int | None,
    sample: str,
    seed: int,
    as_json: bool,
) -> int:
    """Prune, train and quantise a network until its file keeps a budget; stopped, it goes on.

    RESULT is a search's result or an architecture's JSON: which of a supernet's networks to begin
    with, the largest by default. Every step's file is evaluated on validation images and measured
    on the table's device.
    """
    from lutra.cli.quantities import parse_latency_ms, parse_seconds

    with progress("shrink") as report:
        found = lutra.shrink(
            checkpoint,
            data,
            table,
            output,
            max_latency_ms=parse_latency_ms(max_latency),
            network=named_network(result),
            steps=[name.strip() for name in steps.split(",") if name.strip()],
            epochs=epochs,
            images=images,
            sample_seconds=parse_seconds(sample),
            seed=seed,
            watch=watch(report),
            on_step=with_eta(report),
            on_note=note,
        )
    if as_json:
        print_json(found.to_json())
    else:
        _print(found, max_latency)
    return _OVER_BUDGET if found.best is None else 0


def _print(found: Shrunk, budget: str) -> None:
    columns = ["step", "top-1 %", "predicted_ms", "latency_ms", "upper_ms", "KB", "download KB"]
    rows = [
        [
            step.name,
            step.top1,
            step.predicted_ms,
            step.latency_ms,
            step.upper_ms,
            round(step.model_bytes / 1000),
            round(step.download_bytes / 1000),
        ]
        for step in found.steps
    ]
    print_table(columns, rows)
    best = found.best
    if best is None:
        nearest = min(found.steps, key=lambda step: step.upper_ms)
        note(f"no step keeps {budget}: the nearest is {nearest.name}, {nearest.upper_ms:.4g} ms")
        return
    note(f"the best within {budget}: {found.folder / best.model}")
