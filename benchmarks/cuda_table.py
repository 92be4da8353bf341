"""A GPU's table, built and validated in eight minutes or less, with its figures in a page of docs/.

    python -m benchmarks.cuda_table [--device cuda:0] [--runtime torch] [--batch 1]
        [--precision fp32] [--option graph=on] [--networks 100] [--minutes 8] [--docs docs/cuda]

Profiles OFA-MobileNetV3 at 224, calibrates on 20 networks, validates on fresh ones, searches
half-way between the fastest and the slowest subnet and measures the best; then profiles a second
table, to see whether two agree, and (eager torch) times every op again with the naive timer of
many repositories: the host's clock without a synchronisation. Writes docs/cuda/NAME.md, and the
rows as docs/cuda/NAME.csv. Three runs show a card: with nothing, with `--option graph=on`, and
with `--batch 64`.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.prediction_error import networks
from lutra.devices.base import Device, RuntimeConfig
from lutra.devices.registry import format_of, open_device
from lutra.devices.worker.gpu_watch import GpuWatch
from lutra.emitters.emission import Emission
from lutra.errors import LutraError, TransientDeviceError
from lutra.predictors.accuracy import load_accuracy
from lutra.predictors.efficiency.fitting import Fit
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.profiler.bench import Bench, bench_of_table
from lutra.profiler.networks.calibration import calibrate_on, validate_on
from lutra.profiler.networks.validation import Validation
from lutra.profiler.profile import profile
from lutra.profiler.protocols import NETWORK_PROTOCOL, TimingProtocol
from lutra.profiler.record import RunSummary
from lutra.profiler.watch import Watch
from lutra.profiler.workload import ModelStore, op_workload
from lutra.search.find import find_networks, half_way_budget_ms
from lutra.search.measuring.verification import verify_on
from lutra.search.result import SearchResult
from lutra.spaces import get_space
from lutra.tables import LatencyTable
from lutra.tables.measurement import CALIBRATE, VALIDATE

SPACE, RESOLUTION = "ofa-mbv3-w1.0", 224
CALIBRATION_NETWORKS = 20
VERIFIED = 3
AGREED_PERCENT = 2.0
# Shares of the time for each step, as a limit; two tables are profiled, and the rest is overhead.
PROFILE_SHARE, CALIBRATE_SHARE, VALIDATE_SHARE, VERIFY_SHARE = 0.2, 0.1, 0.3, 0.04
NETWORK_ROUNDS = 3
NAIVE_WARMUP, NAIVE_RUNS = 10, 50

T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """What is measured."""

    device: str
    config: RuntimeConfig
    precision: str
    networks: int
    seconds: float

    def watch(self, share: float) -> Watch:
        """A step's share of the time."""
        return Watch(budget_seconds=share * self.seconds)

    @property
    def name(self) -> str:
        """A file name: the way models run, without the card."""
        options = [f"{name}-{value}" for name, value in sorted(self.config.options.items())]
        words = [self.config.runtime, self.precision, f"batch-{self.config.batch}", *options]
        return "-".join(words)


@dataclass(frozen=True)
class Figures:
    """What came of it."""

    summary: RunSummary
    fit: Fit
    validation: Validation
    plain_sum: Validation
    macs: Validation
    result: SearchResult
    bound: tuple[int, int]
    agreed_percent: float
    worst_disagreement_percent: float
    naive_ratio: tuple[float, float, float] | None
    seconds: dict[str, float]


class Stopwatch:
    """Seconds by step, told on stderr as they pass."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def step(self, name: str, work: Callable[[], T]) -> T:
        begun = time.monotonic()
        done = work()
        self.seconds[name] = time.monotonic() - begun
        print(f"{name}: {self.seconds[name]:.0f} s", file=sys.stderr)
        return done


def measure(case: Case, device: Device, folder: Path) -> Figures:
    stopwatch = Stopwatch()
    first, second = folder / "first.lut", folder / "second.lut"
    summary = stopwatch.step("profile", lambda: _profile(case, device, first))
    protocol = replace(NETWORK_PROTOCOL, rounds=NETWORK_ROUNDS)
    with bench_of_table(first, device) as (table, bench):
        fitted = stopwatch.step(
            "calibrate",
            lambda: calibrate_on(
                bench,
                table,
                networks=CALIBRATION_NETWORKS,
                protocol=protocol,
                watch=case.watch(CALIBRATE_SHARE),
            ),
        )
        validation = stopwatch.step(
            "validate",
            lambda: validate_on(
                bench,
                table,
                networks=case.networks,
                protocol=protocol,
                watch=case.watch(VALIDATE_SHARE),
            ),
        )
        predictor = EfficiencyPredictor(table)
        accuracy = load_accuracy(space=SPACE)
        budget_ms = half_way_budget_ms(predictor, accuracy)
        found = stopwatch.step("search", lambda: find_networks(table, max_latency_ms=budget_ms))
        result = stopwatch.step(
            "verify",
            lambda: _verified(case, bench, found, protocol),
        )
        plain_sum, macs = _baselines(table, predictor, validation)
        bounds = [row.measurement.bound for row in table.rows("op") if row.measurement]
    stopwatch.step("second table", lambda: _profile(case, device, second))
    agreed, worst = _agreement(first, second)
    return Figures(
        summary,
        fitted,
        validation,
        plain_sum,
        macs,
        result,
        (bounds.count("launch"), bounds.count("device")),
        agreed,
        worst,
        stopwatch.step("naive timer", lambda: _naive_ratio(case, first, folder)),
        stopwatch.seconds,
    )


def _profile(case: Case, device: Device, path: Path) -> RunSummary:
    return profile(
        device,
        SPACE,
        path,
        resolutions=[RESOLUTION],
        runtime=case.config.runtime,
        precision=case.precision,
        batch=case.config.batch,
        options=case.config.options,
        watch=case.watch(PROFILE_SHARE),
    )


def _verified(
    case: Case, bench: Bench, found: SearchResult, protocol: TimingProtocol
) -> SearchResult:
    """The result measured, or as it was where that fails: the rest is worth its page."""
    try:
        return verify_on(bench, found, VERIFIED, protocol, case.watch(VERIFY_SHARE))
    except TransientDeviceError as error:
        print(f"not verified: {error}", file=sys.stderr)
        return found


def _baselines(
    table: LatencyTable, predictor: EfficiencyPredictor, validation: Validation
) -> tuple[Validation, Validation]:
    """The errors of the plain sum and of scaled MACs on the same networks."""
    (train, train_ms), (test, test_ms) = (
        (np.stack([predictor.space.encode(item) for item in architectures]), measured_ms)
        for architectures, measured_ms in (
            networks(table, predictor, role) for role in (CALIBRATE, VALIDATE)
        )
    )
    scale = float(np.median(train_ms / predictor.macs.of(train)))
    repeatability = validation.repeatability_percent
    return (
        Validation.of(predictor.network_features(test)[:, 0], test_ms, repeatability),
        Validation.of(scale * predictor.macs.of(test), test_ms, repeatability),
    )


def _agreement(first: Path, second: Path) -> tuple[float, float]:
    """Percent of rows within 2 % in both tables, and the worst difference in percent."""
    found = []
    for path in (first, second):
        with LatencyTable.open(path) as table:
            found.append(table.op_latencies())
    common = sorted(set(found[0]) & set(found[1]))
    ratios = np.array([found[1][key] / found[0][key] for key in common])
    apart = 100.0 * np.abs(ratios - 1.0)
    return 100.0 * float((apart <= AGREED_PERCENT).mean()), float(apart.max())


def _naive_ratio(case: Case, path: Path, folder: Path) -> tuple[float, float, float] | None:
    """What the host's clock says without a synchronisation, as a share of what is right.

    The least, the median and the greatest over the ops; only for eager torch on this machine,
    as it is what people time so.
    """
    config, (scheme, _, index) = case.config, case.device.partition(":")
    if scheme != "cuda" or config.runtime != "torch" or config.options:
        return None
    GpuWatch(int(index or 0))  # torch here uses the same card
    with LatencyTable.open(path) as table:
        right = table.op_latencies()
    space = get_space(SPACE)
    emission = Emission(format_of("torch"), case.precision, case.config.batch)
    store = ModelStore(folder, emission.format)
    ratios = [
        _naive_ms(store.path(op_workload(op, emission))) / right[op.key]
        for op in space.ops_at([RESOLUTION])
        if op.key in right
    ]
    return float(np.min(ratios)), float(np.median(ratios)), float(np.max(ratios))


def _naive_ms(path: Path) -> float:
    import torch

    from lutra.devices.worker.runtimes.torch_graph import load_module

    module = load_module(str(path)).to("cuda")
    features = torch.randn(module.input_shape, device="cuda", dtype=module.dtype)
    with torch.inference_mode():
        for _ in range(NAIVE_WARMUP):
            module(features)
        begun = time.perf_counter()
        for _ in range(NAIVE_RUNS):
            module(features)
        ended = time.perf_counter()
    torch.cuda.synchronize()
    return 1e3 * (ended - begun) / NAIVE_RUNS


def page(case: Case, device: Device, figures: Figures, command: str) -> str:
    """The figures as Markdown."""
    info, target = device.info(), figures.result.target
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    launch, alone = figures.bound
    lines = [
        f"# {info.model}: {case.name}",
        "",
        f"Measured on {today} with `{command}`",
        "",
        f"- device: {info.model}, {info.os}",
        f"- target: {target.summary()}",
        f"- space: {SPACE} at {RESOLUTION}, {figures.summary.workloads} unique op configurations",
        "- seconds: "
        + ", ".join(f"{name} {spent:.0f}" for name, spent in figures.seconds.items())
        + f"; in all {sum(figures.seconds.values()):.0f}",
        "",
        "## Table",
        "",
        f"{figures.summary.stable} rows stable, {figures.summary.unstable} unstable,"
        f" {figures.summary.partial} not visited often enough in the time,"
        f" {figures.summary.failed} failed; flagged visits: {figures.summary.flags or 'none'}.",
        f"Two tables agree within {AGREED_PERCENT:g} % on {figures.agreed_percent:.1f} % of rows;"
        f" worst {figures.worst_disagreement_percent:.1f} %.",
    ]
    if launch or alone:
        lines.append(f"{launch} ops are launch-bound, {alone} device-bound.")
    if figures.naive_ratio is not None:
        least, middle, most = figures.naive_ratio
        lines += [
            "",
            "The host's clock without a synchronisation (eager, 10 + 50 runs) shows"
            f" {100 * middle:.0f} % of the latency in the median op,"
            f" {100 * least:.0f} % to {100 * most:.0f} % over all.",
        ]
    lines += ["", "## Error on fresh networks", "", *_error_table(figures)]
    lines += ["", "## Search", "", *_search_table(figures.result)]
    return "\n".join(lines) + "\n"


def _error_table(figures: Figures) -> list[str]:
    columns = {
        f"lutra ({', '.join(figures.fit.terms)})": figures.validation,
        "plain sum": figures.plain_sum,
        "scaled MACs": figures.macs,
    }
    names = list(asdict(figures.validation))
    return [
        f"| | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
        *(
            f"| {name.replace('_percent', ' %').replace('_', ' ')} | "
            + " | ".join(f"{getattr(column, name):.3g}" for column in columns.values())
            + " |"
            for name in names
        ),
    ]


def _search_table(result: SearchResult) -> list[str]:
    rows = [
        f"| {candidate.accuracy:.2f} | {candidate.predicted_ms:.4g} |"
        f" {candidate.verified.measured_ms:.4g} | {candidate.verified.error_percent:+.2f} |"
        for candidate in result.candidates[:VERIFIED]
        if candidate.verified is not None
    ]
    if not rows:
        rows = ["| not measured | | | |"]
    return [
        f"Budget {result.limits['latency_ms']:.4g} ms, half-way between the fastest and the"
        " slowest subnet.",
        "",
        "| accuracy % | predicted ms | measured ms | error % |",
        "|---|---|---|---|",
        *rows,
    ]


def write(case: Case, device: Device, figures: Figures, table: Path, docs: Path) -> Path:
    """Write the page and the rows; returns the page's path."""
    card = re.sub(r"[^a-z0-9]+", "-", device.info().model.split(" on ")[0].lower()).strip("-")
    docs.mkdir(parents=True, exist_ok=True)
    path = docs / f"{card}-{case.name}.md"
    command = _command(sys.argv[1:])
    path.write_text(page(case, device, figures, command), encoding="utf-8")
    with LatencyTable.open(table) as opened:
        opened.to_frame("op").to_csv(path.with_suffix(".csv"), index=False)
    return path


def _command(arguments: Sequence[str]) -> str:
    """The command, without where its page went."""
    at = arguments.index("--docs") if "--docs" in arguments else len(arguments)
    kept = [*arguments[:at], *arguments[at + 2 :]]
    return shlex.join(["python", "-m", "benchmarks.cuda_table", *kept])


def parse(arguments: Sequence[str]) -> tuple[Case, Path]:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--runtime", default="torch")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--networks", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--docs", type=Path, default=Path("docs/cuda"))
    given = parser.parse_args(arguments)
    options = dict(pair.split("=", 1) for pair in given.option)
    config = RuntimeConfig(given.runtime, batch=given.batch, options=options)
    seconds = 60.0 * given.minutes
    return Case(given.device, config, given.precision, given.networks, seconds), given.docs


def main() -> None:
    case, docs = parse(sys.argv[1:])
    try:
        with (
            open_device(case.device) as device,
            tempfile.TemporaryDirectory(prefix="lutra-") as folder,
        ):
            figures = measure(case, device, Path(folder))
            path = write(case, device, figures, Path(folder) / "first.lut", docs)
    except LutraError as error:
        sys.exit(f"error: {error}")
    print(path.read_text(encoding="utf-8"))
    print(f"written: {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
