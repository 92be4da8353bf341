"""The end of `lutra quickstart` for a space whose trained weights come with lutra."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import lutra
from lutra.cli.output import Report, note, print_table, watch, with_eta

PRECISIONS = ("fp32", "int8")
_MEASURE_SECONDS = 20.0

Step = Callable[[str], AbstractContextManager[Report]]
"""Announces a step by its text, and shows how far it is."""


@dataclass(frozen=True)
class Deployment:
    """Where the files are to run, whose weights they get, and the images for these."""

    device: str
    space: str
    data: Path
    fine_tune_epochs: int


@dataclass(frozen=True)
class Deployed:
    """A file that was exported with trained weights: its latency (ms) and top-1 (percent)."""

    path: str
    precision: str
    weights: str
    latency_ms: float
    ci_low_ms: float
    ci_high_ms: float
    top1: float
    images: int
    bytes: int


def deploy(
    result: lutra.SearchResult, folder: Path, deployment: Deployment, step: Step, *, show: bool
) -> list[Deployed]:
    """Export the best subnet at each precision, and measure the files."""
    from lutra.supernets.checkpoints.shipped import shipped_checkpoint

    checkpoint = shipped_checkpoint(deployment.space)
    assert checkpoint is not None
    metadata = {}
    with step("export with trained weights, fp32 and int8") as report:
        for precision in PRECISIONS:
            metadata[precision] = lutra.export(
                result,
                folder / f"model-{precision}.onnx",
                precision=precision,
                checkpoint=checkpoint,
                data=deployment.data,
                fine_tune_epochs=deployment.fine_tune_epochs,
                on_step=with_eta(report),
            )
    with step("measure these files: latency, and accuracy on the test images") as report:
        deployed = [_measured(each, folder, deployment, report) for each in metadata.values()]
    if show:
        _print(deployed, deployment.data)
    return deployed


def _measured(
    metadata: dict[str, str], folder: Path, deployment: Deployment, report: Report
) -> Deployed:
    from lutra.emitters.model_file import read_model_files
    from lutra.profiler.networks.model_files import measurement_of

    path, precision = Path(metadata["path"]), metadata["precision"]
    table = folder / f"files-{precision}.lut"
    lutra.profile_models(deployment.device, [path], table, watch=watch(report, _MEASURE_SECONDS))
    found = lutra.evaluate(path, deployment.data)
    (file,) = read_model_files([path])
    with lutra.LatencyTable.open(table) as opened:
        measured = measurement_of(opened, file)
    return Deployed(
        str(path),
        precision,
        metadata["weights"],
        measured.latency_ms,
        measured.ci_low_ms,
        measured.ci_high_ms,
        found.percent,
        found.accuracy.count,
        path.stat().st_size,
    )


def _print(deployed: list[Deployed], data: Path) -> None:
    print_table(
        ["file", "top-1 %", "latency_ms", "ci_low_ms", "ci_high_ms", "KB"],
        [
            [
                Path(each.path).name,
                each.top1,
                each.latency_ms,
                each.ci_low_ms,
                each.ci_high_ms,
                round(each.bytes / 1000),
            ]
            for each in deployed
        ],
    )
    note(f"top-1 is that of the files, run on the {deployed[0].images} test images of {data}")
