"""Do networks that were found under a budget keep it, when another process measures them later?

    python -m benchmarks.budget_kept TABLE -o found.jsonl [--searches 40] [--seed 0]
    python -m benchmarks.budget_kept TABLE --check found.jsonl

The first command searches at random budgets between the fastest and the slowest subnet, twice: by
`find_networks`, which measures nothing, and by `find_within_budget`, which measures into a copy of
TABLE, `found.lut`. The second, later and in a process of its own, measures what both found in
common shuffled rounds, and prints how many are within their budgets, by how much, which part of
that is the price of confidence (upper_ms less measured_ms), and what accuracy caution cost.

TABLE's precision is what is measured: for int8, one of `lutra profile --precision int8`. Each
search's seconds are printed: half a minute to two and a half up to 224, so that 40 searches take
three quarters of an hour; stopped, the same command goes on. The check visits each of their 80
networks twice as often as `lutra verify` does, so that its own noise is not what is told; it takes
four minutes to twenty.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lutra.predictors.accuracy import load_accuracy
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.profiler.bench import bench_of_table
from lutra.search.candidate import Candidate
from lutra.search.find import find_networks
from lutra.search.measuring.closed_loop import find_within_budget
from lutra.search.measuring.measured import in_visits
from lutra.search.measuring.verification import verify_on
from lutra.search.result import SearchResult

_CHECKED_AT_ONCE = 20
_INNER = (0.05, 0.75)  # of the way from the fastest to the slowest: where budgets bind


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--check", type=Path)
    parser.add_argument("--searches", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.check:
        check(given.table, given.check)
    elif given.output:
        search(given.table, given.output, given.searches, given.seed)
    else:
        parser.error("-o FILE to search, --check FILE to measure what was found")


def search(table: Path, output: Path, count: int, seed: int) -> None:
    """Search at ``count`` budgets; a line of JSON each. Goes on behind those that are there."""
    copy = output.with_suffix(".lut")
    done = len(output.read_text().splitlines()) if output.exists() else 0
    if not done:
        shutil.copy(table, copy)
    predictor = EfficiencyPredictor(table)
    resolutions = [
        r for r in predictor.resolutions if r in load_accuracy(space=predictor.space).resolutions
    ]
    fastest = predictor.latency.cheapest(resolutions)[0]
    slowest = predictor.latency.dearest(resolutions)[0]
    shares = np.random.default_rng(seed).uniform(*_INNER, count)
    with output.open("a") as file:
        budgets = (fastest + shares * (slowest - fastest)).tolist()
        for number, budget in list(enumerate(budgets, 1))[done:]:
            begun = time.monotonic()
            plain = find_networks(table, max_latency_ms=budget)
            kept = find_within_budget(copy, budget)
            line = {"budget_ms": budget, "plain": plain.to_json(), "kept": kept.to_json()}
            file.write(json.dumps(line) + "\n")
            file.flush()
            loop = kept.closed_loop
            print(
                f"{number:3} {budget:8.3f} ms: {loop and loop.kept} of {loop and loop.measured} in"
                f" {loop and loop.iterations} iterations, {time.monotonic() - begun:.0f} s",
                file=sys.stderr,
            )


def check(table: Path, found: Path) -> None:
    """Measure what was found and print what came of it."""
    lines = [json.loads(line) for line in found.read_text().splitlines()]
    results = {
        name: [SearchResult.from_json(line[name], f"{found}: {name}") for line in lines]
        for name in ("plain", "kept")
    }
    every = [result.best for each in results.values() for result in each]
    measured = _measured(table, results["plain"][0], every)
    budgets = np.array([line["budget_ms"] for line in lines])
    print(f"{len(lines)} searches, {len(measured)} networks measured")
    print(f"{'':38} {'within':>10} {'slack %, mean':>13} {'least':>6} {'accuracy %':>10}")
    for name, title in (("plain", "find_networks"), ("kept", "find_within_budget")):
        for kind, state in (("measured_ms", "the table's state"), ("raw_ms", "as it is now")):
            values = [getattr(measured[r.best.architecture.key], kind) for r in results[name]]
            slack = 100.0 * (1.0 - np.array(values) / budgets)
            accuracy = np.mean([result.best.accuracy for result in results[name]])
            print(
                f"{title + ', ' + state:38} {int((slack >= 0).sum()):3} of {len(slack):<3}"
                f" {slack.mean():13.2f} {slack.min():6.2f} {accuracy:10.2f}"
            )
    price = np.mean(
        [
            100.0 * (then.upper_ms - then.measured_ms) / budget
            for result, budget in zip(results["kept"], budgets, strict=True)
            if (then := result.best.verified) is not None
        ]
    )
    print(f"{price:.2f} % of a budget is the price of confidence: upper_ms less measured_ms")
    loops = [r.closed_loop for r in results["kept"] if r.closed_loop is not None]
    kept = sum(loop.kept > 0 for loop in loops)
    share = sum(loop.kept for loop in loops) / sum(loop.measured for loop in loops)
    print(
        f"{kept} of {len(loops)} searches ended with a network that kept its budget then;"
        f" {100 * share:.0f} % of all measured candidates did"
    )


def _measured(
    table: Path, template: SearchResult, candidates: Sequence[Candidate]
) -> dict[str, Any]:
    """What each network takes, by its key."""
    distinct = sorted(
        {each.architecture.key: each for each in candidates}.values(),
        key=lambda each: each.predicted_ms,  # so that the networks beside are of their size
    )
    found: dict[str, Any] = {}
    for start in range(0, len(distinct), _CHECKED_AT_ONCE):
        some = tuple(replace(each, verified=None) for each in distinct[start:][:_CHECKED_AT_ONCE])
        with bench_of_table(table) as (_, bench):
            result = verify_on(bench, replace(template, candidates=some), len(some), in_visits(2))
        found |= {each.architecture.key: each.verified for each in result.candidates}
    return found


if __name__ == "__main__":
    main()
