"""What a search found, as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lutra.cli.output import note, print_table

if TYPE_CHECKING:
    from lutra.search.candidate import Candidate
    from lutra.search.result import SearchResult
    from lutra.spaces import Architecture

_GROUP = 4  # blocks of a stage
_SHOWN = 25


def print_candidates(result: SearchResult, *, measured: bool = False) -> None:
    """A line per candidate, of a long front some that are spread over it.

    With what was ``measured`` of their accuracy where candidates were evaluated.
    """
    shown = result.candidates
    if len(shown) > _SHOWN:
        last = len(shown) - 1
        shown = tuple(shown[round(place * last / (_SHOWN - 1))] for place in range(_SHOWN))
        note(
            f"{len(shown)} of the front's {len(result.candidates)} networks: all are in -o and"
            " --front files, and in --json"
        )
    genes = [name for name, _ in result.best.architecture.lists]
    elsewhere = [other.table for other in result.other_tables]
    budget_ms = result.limits.get("latency_ms")
    columns = [
        "accuracy %",
        *(["measured %", "low %", "high %"] if measured else []),
        "predicted_ms",
        "low",
        "high",
        *([] if budget_ms is None else ["below budget %"]),
        *(f"ms on {table}" for table in elsewhere),
        "macs M",
        "params M",
        "memory MB",
        "r",
        *genes,
    ]
    print_table(
        columns, [_cells(candidate, budget_ms, elsewhere, genes, measured) for candidate in shown]
    )


def _cells(
    candidate: Candidate,
    budget_ms: float | None,
    elsewhere: list[str],
    genes: list[str],
    measured: bool,
) -> list[object]:
    memory = candidate.memory_bytes
    return [
        candidate.accuracy,
        *(_measured(candidate) if measured else []),
        candidate.predicted_ms,
        candidate.predicted_low_ms,
        candidate.predicted_high_ms,
        *([] if budget_ms is None else [100.0 * (1.0 - candidate.predicted_ms / budget_ms)]),
        *(candidate.elsewhere[table].latency_ms for table in elsewhere),
        candidate.macs / 1e6,
        candidate.params / 1e6,
        None if memory is None else memory / 1e6,
        candidate.architecture.r,
        *(genes_text(candidate.architecture, name) for name in genes),
    ]


def _measured(candidate: Candidate) -> list[float | None]:
    """What was measured of a candidate's accuracy."""
    found = candidate.evaluated
    if found is None:
        return [None, None, None]
    return [found.measured_accuracy, found.accuracy_low, found.accuracy_high]


def genes_text(architecture: Architecture, name: str) -> str:
    """One of an architecture's lists: digits, many in groups, else numbers with commas."""
    values = [f"{value:g}" for value in architecture[name]]
    if any(len(value) > 1 for value in values):
        return ", ".join(values)
    size = _GROUP if len(values) > 2 * _GROUP else len(values)
    return " ".join("".join(values[start : start + size]) for start in range(0, len(values), size))
