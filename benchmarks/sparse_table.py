"""What is lost where not every op is measured: errors of networks, beside the whole table's.

Measures a whole table with 20 networks to calibrate on and fresh ones, all in common rounds. From
it tables are taken of which only some ops are known, chosen as `lutra profile --sample` does, and
as many chosen at random; as with `--sample`, of ops and networks they know a third of the rounds.
Each is filled in, calibrated on the same 20 and asked about the fresh networks. One
more is solved from networks alone, half of all or --alone so many, and asked about the others.
With another table as a prior those by design are filled in by it too.

    python -m benchmarks.sparse_table                                # onnxruntime fp32
    python -m benchmarks.sparse_table --runtime litert --precision int8
    python -m benchmarks.sparse_table --fresh 340 --alone 300
    python -m benchmarks.sparse_table --table kept.lut               # measured before: nothing is
    python -m benchmarks.sparse_table --table kept.lut --prior other.lut
    python -m benchmarks.sparse_table --seconds [--repeat 3] [--runtime litert --precision int8]

With --seconds nothing is predicted: whole tables and those of a sample are made in turns, by
default at the resolutions 160:224:16, each in a process of its own from its start to its end, and
printed is what they took, by part.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import lutra
from benchmarks.run_parts import RESOLUTIONS
from lutra.predictors.efficiency.composition import Floats
from lutra.predictors.efficiency.fitting import Fit, Forms, fit
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.predictors.filling.design import most_informative
from lutra.predictors.filling.fill import fill_in
from lutra.predictors.filling.from_networks import solve_networks
from lutra.predictors.filling.prior import Prior, prior_of, read_prior, store_prior
from lutra.profiler.statistics import summarise
from lutra.spaces import Rows, SearchSpace, get_space
from lutra.tables import LatencyTable, Measurement
from lutra.tables.measurement import Category, Filled
from lutra.tables.profiled import note_profiled, resolutions_of
from lutra.tables.states import visits_in_one_state

CALIBRATING = 20
SHARES = (0.05, 0.15, 0.3)
RANDOM_SEEDS = 3
TIMED_SHARES = (0.15, 0.05)


def main() -> None:
    """Print a line for each way of making a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--resolutions", type=int, nargs="+")
    parser.add_argument("--fresh", type=int, default=60)
    parser.add_argument("--alone", type=int, help="networks that one is solved from, without ops")
    parser.add_argument("--table", type=Path, help="a table of such a run, made or kept here")
    parser.add_argument("--prior", type=Path, help="another table of the space")
    parser.add_argument("--seconds", action="store_true", help="how long it takes instead")
    parser.add_argument("--repeat", type=int, default=1, help="tables of each kind to time")
    given = parser.parse_args()
    if given.seconds:
        _time(given.runtime, given.precision, given.resolutions or RESOLUTIONS, given.repeat)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = given.table or Path(folder) / "whole.lut"
        if not path.exists():
            lutra.profile(
                "cpu",
                "ofa-mbv3-w1.0",
                path,
                resolutions=given.resolutions or [128, 152, 176, 200, 224],
                networks=CALIBRATING + given.fresh,
                runtime=given.runtime,
                precision=given.precision,
            )
        with LatencyTable.open(path) as table:
            print(table.target.summary())
            space = get_space(resolutions_of(table)[0])
            prior = given.prior and prior_of(given.prior, space, table.target.precision)
            if prior is not None:
                print(f"prior: {prior.target}, {len(prior.latencies_ms)} ops")
            _compare(table, space, prior, given.alone)


@dataclass(frozen=True)
class _Whole:
    """A table of which every op was measured, and its networks (N, genes) and (N,).

    ``sampled`` and ``sampled_ms`` (N,) are what the rounds tell of ops and networks in which a
    sample would have visited them.
    """

    table: LatencyTable
    space: SearchSpace
    rows: Rows
    measured_ms: Floats
    sampled: Mapping[str, Measurement]
    sampled_ms: Floats

    @classmethod
    def of(cls, table: LatencyTable, space: SearchSpace) -> _Whole:
        some = _of_a_sample(table, "network")
        networks = [
            (space.from_key(row.key), row.measurement.latency_ms, some[row.key].latency_ms)
            for row in table.rows("network")
            if row.measurement is not None
        ]
        rows = np.stack([space.encode(each) for each, *_ in networks if each is not None])
        measured_ms, sampled_ms = np.array([latencies for _, *latencies in networks]).T
        return cls(table, space, rows, measured_ms, _of_a_sample(table, "op"), sampled_ms)

    def some(self, path: Path, keys: Collection[str], prior: Prior | None) -> LatencyTable:
        """A copy in which only some ops were measured, and the others are filled in."""
        some = LatencyTable.create(path, self.table.target)
        resolutions = resolutions_of(self.table, self.space.name)[1]
        note_profiled(some, None, self.space.name, resolutions)
        for row in self.table.rows("op"):
            if row.key in keys and row.measurement is not None:
                visit = self.table.visits("op", row.key)[-1]
                whole = len(keys) == len(self.sampled)
                known = row.measurement if whole else self.sampled[row.key]
                some.record_visit("op", row.key, visit, known)
        if prior is not None:
            store_prior(some, self.space.name, prior)
        fill_in(some, self.space, resolutions)
        return some


def _of_a_sample(table: LatencyTable, category: Category) -> dict[str, Measurement]:
    """What workloads come to by every third round, as a sample has 6 of 18; by all without such."""
    return {
        key: summarise([visit for visit in visits if visit.round % 3 == 0] or visits)
        for key, visits in visits_in_one_state(table, category).items()
    }


def _compare(
    table: LatencyTable, space: SearchSpace, prior: Prior | None, alone: int | None
) -> None:
    whole = _Whole.of(table, space)
    resolutions = resolutions_of(table)[1]
    known = table.op_latencies()
    ops = len(space.ops_at(resolutions))
    print(f"{ops} ops, {len(whole.rows)} networks, {CALIBRATING} of them to calibrate on")
    heading = ("measured", "chosen", "MAPE %", "of whole", "95 % within", "in it")
    of_ops = ("ops off %", "in it", "prior")
    print("{:>14} {:>9} {:>7} {:>8} {:>11} {:>6} {:>9} {:>6} {}".format(*heading, *of_ops))
    best = _line(whole, known, "all", "", None)
    for share in SHARES:
        count = round(share * ops)
        keys = [op.key for op in most_informative(space, resolutions, count)]
        for each in (None, prior) if prior else (None,):
            _line(whole, keys, f"{share:.0%}", "by design", best, each)
        for seed in range(RANDOM_SEEDS):
            drawn = np.random.default_rng(seed).choice(sorted(known), count, replace=False)
            _line(whole, drawn, f"{share:.0%}", "randomly", best)
    half = alone or (CALIBRATING + len(whole.rows)) // 2
    rows, took_ms = whole.rows, whole.measured_ms
    filled, solved = solve_networks(
        space, resolutions, rows[:half], took_ms[:half], took_ms[:half, None]
    )
    alone_ms = np.array(
        [filled[op.key].latency_ms if op.key in filled else 0.0 for op in space.ops]
    )
    predicted = space.op_counts(rows[half:]) @ alone_ms + solved.composition.constant_ms
    errors, ones = predicted / took_ms[half:] - 1.0, np.ones(len(rows) - half)
    said = _of_ops(filled, known)
    _print(f"{half} networks", "", errors, solved.interval_percent, ones, best, said)


def _line(
    whole: _Whole,
    keys: Collection[str],
    name: str,
    how: str,
    best: float | None,
    prior: Prior | None = None,
) -> float:
    """Fill in all but some ops, calibrate, and say how far off fresh networks are."""
    with (
        tempfile.TemporaryDirectory() as folder,
        whole.some(Path(folder) / "some.lut", set(keys), prior) as some,
    ):
        predictor = EfficiencyPredictor(some, whole.space, plain_sum=True)
        networks = predictor.networks(whole.rows, np.ones(len(whole.rows)))
        said = _of_ops(some.filled(), whole.table.op_latencies())
        kept = read_prior(some, whole.space.name)
    if kept is not None and kept.use is not None:
        said += " taken" if kept.use.taken else " left out"
    calibrating_ms = whole.measured_ms if best is None else whole.sampled_ms
    first, fresh = (
        replace(networks.take(chosen), measured_ms=latencies_ms[chosen])
        for chosen, latencies_ms in zip(
            np.split(np.arange(len(whole.rows)), [CALIBRATING]),
            (calibrating_ms, whole.measured_ms),
            strict=True,
        )
    )
    fitted: Fit = fit(first)
    forms = Forms(fitted.composition, spread=fitted.spread)
    errors = forms.predict(fresh) / fresh.measured_ms - 1.0
    widening = forms.widening(fresh)
    return _print(name, how, errors, fitted.interval_percent, widening, best, said)


def _of_ops(filled: Mapping[str, Filled], known: Mapping[str, float]) -> str:
    """How far off what was filled in is (median), and how much of it is in its interval."""
    found = [(each, known[key]) for key, each in filled.items() if key in known]
    if not found:
        return ""
    off = np.median([abs(each.latency_ms / latency_ms - 1.0) for each, latency_ms in found])
    within = np.mean([each.low_ms <= latency_ms <= each.high_ms for each, latency_ms in found])
    return f"{100 * off:9.1f} {within:6.0%}"


def _print(
    name: str,
    how: str,
    errors: Floats,
    interval: float,
    widening: Floats,
    best: float | None,
    said: str,
) -> float:
    mape = 100.0 * float(np.abs(errors).mean())
    within = np.mean(100.0 * np.abs(errors) <= interval * widening)
    ratio = "" if best is None else f"{mape / best:.2f}"
    line = f"{name:>14} {how:>9} {mape:7.2f} {ratio:>8} {interval:11.1f} {within:6.0%} {said}"
    print(line.rstrip(), flush=True)
    return mape


def _time(runtime: str, precision: str, resolutions: Sequence[int], repeat: int) -> None:
    """Make whole tables and those of samples in turns; print seconds by part, the medians."""
    kinds: dict[str, list[str]] = {"whole": []}
    kinds |= {f"{share:.0%}": ["--sample", str(share)] for share in TIMED_SHARES}
    setting = ["--runtime", runtime, "--precision", precision, "--resolutions"]
    setting += [str(each) for each in resolutions]
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for number in range(repeat):
        for kind, sample in kinds.items():
            runs[kind].append(_seconds_of([*setting, *sample]))
            total = runs[kind][-1]["in all"]
            print(f"run {number + 1}, {kind}: {total:.1f} s", file=sys.stderr, flush=True)
    print(f"{runtime} {precision}, seconds" + f", medians of {repeat} runs" * (repeat > 1))
    print(f"{'':30}" + "".join(f"{kind:>9}" for kind in kinds) + "   of whole")
    for part in dict.fromkeys(part for found in runs.values() for run in found for part in run):
        middle = [median(run.get(part, 0.0) for run in runs[kind]) for kind in kinds]
        shares = [each / middle[0] for each in middle[1:] if middle[0]]
        line = f"{part:30}" + "".join(f"{each:9.2f}" for each in middle)
        print(line + "   " + " ".join(f"{share:.2f}" for share in shares))


def _seconds_of(arguments: Sequence[str]) -> dict[str, float]:
    """Seconds by part of making one table in a process of its own, and other figures of it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.run_parts", "-o", f"{folder}/table.lut"]
        begun = time.perf_counter()
        done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, check=True)
        total = time.perf_counter() - begun
    found: dict[str, Any] = json.loads(done.stdout)
    parts: dict[str, float] = found.pop("seconds")
    rest = total - sum(parts.values())
    return {**parts, "imports and the rest": rest, "in all": total, **found}


if __name__ == "__main__":
    main()
