"""lutra verify: measure what a search found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

import lutra
from lutra.cli.options import FILE, as_json, network_option
from lutra.cli.output import note, print_json, print_table, progress, watch
from lutra.errors import UsageError
from lutra.files import check_output
from lutra.files.kinds import NETWORK, RESULT, is_of_kind

if TYPE_CHECKING:
    from lutra.search.candidate import Candidate, Verified

_WORTH_SAYING = 0.01  # of a latency
_MIB = 1 << 20
_MEMORY_COLUMNS = ["features MiB", "file MiB", "running MiB", "peak MiB"]
_ABOUT_MEMORY = (
    "memory: features are what the search counts, alive at once; the file is nearly all weights;"
    " running and peak are by how much a fresh process grew at most while it ran the network, and"
    " with loading it: features, weights, copies that the runtime packs of them, and its own"
)


@click.command("verify")
@click.argument("result", type=FILE)
@click.option("--device", "device_spec", required=True, help="Where to measure, such as cpu.")
@click.option(
    "--count",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="How many of the best candidates to measure.",
)
@click.option(
    "--memory", is_flag=True, help="Measure also the memory that a process takes for each."
)
@network_option
@as_json
def command(result: Path, device_spec: str, count: int, memory: bool, as_json: bool) -> None:
    """Measure the found subnets end to end; the result file gains what was measured."""
    if is_of_kind(result, NETWORK):
        raise UsageError(
            f"{result} is one network's weights, which no search found: time its model file (lutra"
            f" export {result} -o m.onnx, then lutra profile {device_spec} --model m.onnx -o m.lut)"
        )
    found = lutra.SearchResult.read(result)
    check_output(result, RESULT)
    with progress("verify") as report:
        verified = lutra.verify(
            found, device=device_spec, count=count, memory=memory, watch=watch(report)
        )
    try:  # before it is written: where that fails, it is on the screen
        if as_json:
            print_json(verified.to_json())
        else:
            print_verified(verified, count)
    finally:  # also where nobody reads
        verified.write(result, over=found)
    if not as_json:
        note(f"written to {result}")


def print_verified(verified: lutra.SearchResult, count: int) -> None:
    """Predicted against measured, one line per candidate."""
    shown = [each for each in verified.candidates[:count] if each.verified is not None]
    budget_ms = verified.limits.get("latency_ms")
    evaluated = any(each.evaluated for each in shown)
    mixed = bool(verified.alternatives)
    occupied = any(each.memory for each in shown)
    print_table(
        [
            *(["precision"] if mixed else []),
            "accuracy %",
            *(["measured %"] if evaluated else []),
            "predicted_ms",
            "measured_ms",
            "ci_low_ms",
            "ci_high_ms",
            "upper_ms",
            "error %",
            "within budget",
            *(_MEMORY_COLUMNS if occupied else []),
            "flags",
        ],
        [
            [
                *([each.precision] if mixed else []),
                each.accuracy,
                *([each.evaluated and each.evaluated.measured_accuracy] if evaluated else []),
                each.predicted_ms,
                each.verified.measured_ms,
                each.verified.ci_low_ms,
                each.verified.ci_high_ms,
                each.verified.upper_ms,
                each.verified.error_percent,
                _within(each.verified, budget_ms),
                *(_memory_cells(each) if occupied else []),
                ",".join(each.verified.flags),
            ]
            for each in shown
            if each.verified is not None
        ],
    )
    if occupied:
        note(_ABOUT_MEMORY)
    best = verified.best.verified
    shift = best.raw_ms / best.measured_ms - 1.0 if best else 0.0
    if best and abs(shift) > _WORTH_SAYING:
        how = f"{100 * abs(shift):.1f} % {'slower' if shift > 0 else 'faster'}"
        note(
            f"the machine is {how} than when the table was made, by networks that the table knows:"
            f" the first one takes {best.raw_ms:.4g} ms now; what stands above is brought to the"
            " table's state"
        )


def _memory_cells(candidate: Candidate) -> list[float | None]:
    found = candidate.memory
    counts = (
        candidate.memory_bytes,
        None if found is None else found.model_file_bytes,
        None if found is None else found.running_memory_bytes,
        None if found is None else found.measured_memory_bytes,
    )
    return [None if count is None else count / _MIB for count in counts]


def _within(found: Verified, budget_ms: float | None) -> str:
    """Whether the budget is kept and by how much: four digits of both would often be the same."""
    if budget_ms is None or found.within_budget is None:
        return "-"
    spare = 100.0 * abs(1.0 - found.upper_ms / budget_ms)
    return f"{'yes' if found.within_budget else 'no'}, by {spare:.2g} %"
