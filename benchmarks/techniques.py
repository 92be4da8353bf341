"""One network of the Fashion-MNIST supernet through each technique to a file, measured and drawn.

    lutra profile cpu --space ofa-mbv3-fashion -o T.lut
    python -m benchmarks.techniques make T.lut --data FOLDER -o OUT [--share 0.6] [--epochs 1]
    python -m benchmarks.techniques measure OUT --data FOLDER [--plot FILE.svg]

``make`` types the commands of docs/compress.md one after the other, at a budget that is a share of
what the table predicts of the largest network; what is there already is not made again. Narrower
ops are measured on the way, so the machine should be idle for the first minutes. ``measure`` times
all files in common rounds, and their top-1 on test images by the runtime.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lutra.emitters.model_file import read_model_files
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.profiler.networks.model_files import time_models
from lutra.report.figures.drawing import Drawing, intervals, ms, styled
from lutra.report.figures.picture import write_picture
from lutra.spaces.widths import width_space_name
from lutra.supernets.checkpoints.shipped import shipped_checkpoint
from lutra.supernets.deployment.file_accuracy import evaluate

SPACE = "ofa-mbv3-fashion"
TECHNIQUES = {
    "largest": "the supernet's largest",
    "largest-int8": "its ranges by percentile, int8",
    "searched": "searched in the supernet",
    "searched-int8": "searched, ranges by percentile, int8",
    "searched-tuned": "searched, an epoch more",
    "searched-qat": "searched, trained in int8",
    "single-path": "single-path from the supernet",
    "pruned": "pruned by the table",
    "distilled": "pruned, learning from the largest",
    "searched-clustered": "searched, clustered, int8",
}
SERIES = dict(zip(TECHNIQUES, (0, 0, 1, 1, 2, 2, 3, 4, 5, 6), strict=True))  # hollow in int8

# A line makes the last file that it names, of what lines before it made.
RECIPE = """
lutra profile cpu --space {widths} --resolutions {r} --sample 150s -o widths.lut
lutra export largest.json --checkpoint {supernet} --data {data} -o largest.onnx
lutra quantize largest.json --checkpoint {supernet} --data {data} --ranges percentile -o largest-int8.onnx
lutra search {table} --max-latency {budget} --evaluate 5 --checkpoint {supernet} --data {data} -o searched.json
lutra export searched.json --checkpoint {supernet} --data {data} -o searched.onnx
lutra prune sense largest.json --checkpoint {supernet} --data {data} --images 2000 --calibration-images 2000 -o curves.jsonl
lutra search widths.lut --max-latency {budget} --accuracy curves.jsonl -o pruned.json
lutra prune apply pruned.json --checkpoint {supernet} --data {data} --fine-tune {epochs} -o pruned.pth
lutra export pruned.json --checkpoint pruned.pth -o pruned.onnx
lutra fine-tune pruned.json --checkpoint {supernet} --data {data} --epochs {epochs} --teacher largest -o distilled.pth
lutra export pruned.json --checkpoint distilled.pth -o distilled.onnx
lutra fine-tune searched.json --checkpoint {supernet} --data {data} --epochs {epochs} -o searched-tuned.pth
lutra export searched.json --checkpoint searched-tuned.pth -o searched-tuned.onnx
lutra quantize searched.json --checkpoint {supernet} --data {data} --ranges percentile -o searched-int8.onnx
lutra quantize searched.json --checkpoint {supernet} --data {data} --ranges trained --epochs {epochs} -o searched-qat.onnx
lutra cluster searched.json --checkpoint {supernet} --data {data} --epochs {epochs} -o clustered.pth
lutra export searched.json --checkpoint clustered.pth --data {data} --precision int8 -o searched-clustered.onnx
lutra search {table} --algorithm single-path --max-latency {budget} --resolutions {searched_r} --data {data} --checkpoint {supernet} --epochs {epochs} --fine-tune {epochs} --weights single-path.pth -o single-path.json
lutra export single-path.json --checkpoint single-path.pth -o single-path.onnx
"""  # noqa: E501


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(required=True)
    making = parts.add_parser("make")
    making.add_argument("table", type=Path)
    making.add_argument("-o", "--output", type=Path, required=True)
    making.add_argument("--share", type=float, default=0.6, help="of the largest's latency")
    making.add_argument("--epochs", type=int, default=1)
    making.set_defaults(run=make)
    measuring = parts.add_parser("measure")
    measuring.add_argument("output", type=Path)
    measuring.add_argument("--plot", type=Path)
    measuring.set_defaults(run=measure)
    for part in (making, measuring):
        part.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    given.run(given)


def make(given: argparse.Namespace) -> None:
    """Every file of the recipe that is not there yet."""
    folder: Path = given.output
    folder.mkdir(parents=True, exist_ok=True)
    predictor = EfficiencyPredictor(given.table)
    space = predictor.space
    largest = space.decode(space.choice_counts - 1)
    (folder / "largest.json").write_text(json.dumps(largest.to_json()))
    budget_ms = given.share * predictor.predict_one(largest).latency_ms
    values = {
        "supernet": shipped_checkpoint(SPACE),
        "data": given.data.resolve(),
        "table": given.table.resolve(),
        "budget": f"{budget_ms:.4f}ms",
        "widths": width_space_name(largest),
        "r": largest.r,
        "epochs": given.epochs,
    }
    for line in RECIPE.strip().splitlines():
        made = folder / line.rsplit(" ", 1)[1]
        if made.exists():
            continue
        if "{searched_r}" in line:
            values["searched_r"] = json.loads((folder / "searched.json").read_text())[
                "architecture"
            ]["r"]
        typed = line.format(**values)
        print(f"$ {typed}", flush=True)
        arguments = [sys.executable, "-m", "lutra", *shlex.split(typed)[1:]]
        subprocess.run(arguments, cwd=folder, check=True)


@dataclass(frozen=True)
class Made:
    """One file, measured: ``low`` and ``high`` are of the 95 % interval, in ms."""

    name: str
    precision: str
    top1: float
    latency_ms: float
    low_ms: float
    high_ms: float
    file_bytes: int


def measure(given: argparse.Namespace) -> None:
    """A line per file, and the picture."""
    found = [*measured(given.output, given.data)]
    print(f"{'file':40} {'measured ms':>11} {'95 %':>18} {'test %':>7} {'bytes':>10}")
    for made in sorted(found, key=lambda made: made.latency_ms):
        across = f"{made.low_ms:.4f} to {made.high_ms:.4f}"
        print(
            f"{TECHNIQUES[made.name]:40} {made.latency_ms:11.4f} {across:>18} {made.top1:7.2f}"
            f" {made.file_bytes:10,}"
        )
    if given.plot:
        write_picture(drawn(found), given.plot)


def measured(folder: Path, data: Path) -> Iterator[Made]:
    """What was made: all files timed in common rounds, whatever their precision."""
    every = [path for name in TECHNIQUES if (path := folder / f"{name}.onnx").exists()]
    for path, timed, file in zip(
        every, time_models("cpu", every), read_model_files(every), strict=True
    ):
        yield Made(
            path.stem,
            file.precision,
            evaluate(path, data, split="test").percent,
            timed.latency_ms,
            timed.ci_low_ms,
            timed.ci_high_ms,
            path.stat().st_size,
        )


@styled
def drawn(found: list[Made]) -> Drawing:
    """Top-1 against measured latency, a mark per technique."""
    drawing = Drawing(inches_high=4.6)
    (axes,) = drawing.axes
    for made in found:
        series = SERIES[made.name]
        text = f"{TECHNIQUES[made.name]}\n{ms(made.latency_ms)}, {made.top1:.2f} %"
        drawing.points(
            axes,
            [made.latency_ms],
            [made.top1],
            [text],
            series=series,
            label=TECHNIQUES[made.name],
            s=28,
            facecolors="none" if made.precision == "int8" else None,
        )
        intervals(axes, [made.top1], [made.low_ms], [made.high_ms], series=series, upright=False)
    axes.set_xlabel("measured latency, ms (bars: 95 % interval; hollow: int8)")
    axes.set_ylabel("top-1 on test images, %")
    drawing.legend(columns=1)
    return drawing


if __name__ == "__main__":
    main()
