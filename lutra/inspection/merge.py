"""Merge: several tables of one target as one table, by the rules of one state."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from lutra.errors import TableError, TableWriteError, TargetMismatchError, UsageError
from lutra.files import write_atomically
from lutra.files.kinds import is_there
from lutra.files.scratch import scratch_folder
from lutra.predictors.filling.fill import fill_in
from lutra.predictors.filling.prior import read_prior, store_prior
from lutra.profiler.networks.calibration import calibrate_as_measured
from lutra.profiler.protocols import NETWORK_PROTOCOL, OP_PROTOCOL
from lutra.profiler.record import VisitRecord
from lutra.spaces import get_space
from lutra.tables import LatencyTable, Measurement
from lutra.tables.documents import CALIBRATION, VALIDATION
from lutra.tables.measurement import Category
from lutra.tables.profiled import note_profiled, read_profiled
from lutra.tables.states import State, States

_RANKS = ("partial", "unstable", "stable")
Rows = dict[tuple[Category, str], Measurement]


@dataclass(frozen=True)
class MergedRun:
    """What a later table's run was to the state of the first table: so many percent slower.

    Seen on ``anchors`` workloads of a category that lie within ``spread_percent`` of it.
    """

    table: str
    category: Category
    slower_percent: float
    anchors: int
    spread_percent: float


@dataclass(frozen=True)
class MergeSummary:
    """What a merge came to: rows by category, and what each later run was to the first table.

    ``calibrated`` are the spaces whose calibration was fitted anew on the networks of all tables,
    ``dropped`` the documents that spoke of one table's state and are not in the new one.
    """

    ops: int
    networks: int
    runs: tuple[MergedRun, ...]
    calibrated: tuple[str, ...]
    dropped: tuple[str, ...]


def merge_tables(tables: Sequence[str | Path], output: str | Path) -> MergeSummary:
    """Make one table of several of one target: other spaces, other resolutions, other days.

    The new table speaks of the state of the first one's first run. The runs of the others become
    later runs of it, and what they measured is brought to that state by what both measured
    (`lutra.tables.states`); every visit stays as it was measured. Calibrations are fitted anew;
    validations are left out. No table that is named is changed.

    Raises `UsageError` for fewer than two tables, `TargetMismatchError` for tables of different
    targets and imported ones, `TableError` where two hold the same visits or nothing tells one's
    state to another, `TableWriteError` where the output is there already.

    >>> summary = profile("cpu", "ofa-mbv3-w1.0", "other.lut", resolutions=[160], networks=0)
    >>> merged = merge_tables(["cpu.lut", "other.lut"], "both.lut")
    >>> merged.ops, merged.networks
    (190, 12)
    """
    paths, output = [Path(path) for path in tables], Path(output)
    if len(paths) < 2:
        raise UsageError("name at least two tables to merge")
    if is_there(output):
        raise TableWriteError(f"{output} is there already: a merge makes a new table")
    with contextlib.ExitStack() as opened, scratch_folder() as folder:
        sources = [opened.enter_context(LatencyTable.open(path)) for path in paths]
        _require_one_target(sources)
        _require_own_visits(sources)
        made = folder / "merged.lut"
        with LatencyTable.create(made, sources[0].target) as table:
            summary = _filled(table, sources)
        write_atomically(output, made.read_bytes(), TableWriteError, new=True)
    return summary


def _require_one_target(sources: Sequence[LatencyTable]) -> None:
    first = sources[0]
    for table in sources:
        if table.target.is_imported:
            raise TargetMismatchError(
                f"{table.path} was imported and cannot be merged: `lutra table import` makes one"
                " table of the files of all resolutions"
            )
        if differing := first.target.differences(table.target):
            told = "; ".join(f"{name} is '{x}' and '{y}'" for name, (x, y) in differing.items())
            raise TargetMismatchError(
                f"{first.path} and {table.path} are of different targets: {told}. Numbers of"
                " different targets never mix; `lutra table diff` compares them"
            )


def _require_own_visits(sources: Sequence[LatencyTable]) -> None:
    """Raise `TableError` where visits would be counted twice."""
    for one, other in combinations(sources, 2):
        if same := one.visit_marks() & other.visit_marks():
            raise TableError(
                f"{one.path} and {other.path} hold {len(same)} of the same visits: one goes on from"
                " a copy of the other, and merging would count them twice; merge tables that were"
                " measured apart"
            )


def _filled(table: LatencyTable, sources: Sequence[LatencyTable]) -> MergeSummary:
    """Fill a new table with all that the sources hold."""
    owner: dict[int, LatencyTable] = {}
    for source in sources:
        for run in table.append(source):
            owner[run] = source
        for space, resolutions in read_profiled(source).spaces.items():
            note_profiled(table, read_profiled(sources[0]).device, space, resolutions)
    runs = _states(table, owner, sources[0])
    _sum_up(table, sources)
    calibrated = []
    for space, resolutions in read_profiled(table).spaces.items():
        priors = (read_prior(source, space) for source in sources)
        if (prior := next(filter(None, priors), None)) is not None:
            store_prior(table, space, prior)
        if any(source.filled() for source in sources) and table.op_latencies():
            fill_in(table, get_space(space), resolutions)
        with contextlib.suppress(TableError):  # it lacks ops, or has fewer than two networks
            calibrate_as_measured(table, space)
            calibrated.append(space)
    dropped = [
        f"the {name} of {space} in {source.path}"
        for source in sources
        for name in (CALIBRATION, VALIDATION)
        for space, document in _documents(source, name).items()
        if document and not (name == CALIBRATION and space in calibrated)
    ]
    ops, networks = len(table.rows("op")), len(table.rows("network"))
    return MergeSummary(ops, networks, runs, tuple(calibrated), tuple(dropped))


def _documents(table: LatencyTable, name: str) -> dict[str, Any]:
    found = table.meta(name)
    return found if isinstance(found, dict) else {}


def _states(
    table: LatencyTable, owner: Mapping[int, LatencyTable], first: LatencyTable
) -> tuple[MergedRun, ...]:
    """What the others' runs are to the first table; raises `TableError` where nothing tells."""
    states = States(table)
    found = []
    categories: tuple[Category, ...] = ("op", "network")
    for category in categories:
        latencies: dict[int, list[float]] = {}
        for visits in table.all_visits(category).values():
            for visit in visits:
                latencies.setdefault(visit.run, []).append(visit.low_ms)
        for run, values in sorted(latencies.items()):
            if owner[run] is first:
                continue
            state, usual_ms = states.of(category, run), sorted(values)[len(values) // 2]
            if not state.reaches(usual_ms):
                raise TableError(_why_apart(first, owner[run], category, state))
            slower = 100.0 * (1.0 / state.factor(usual_ms) - 1.0)
            spread = 100.0 * state.spread
            found.append(MergedRun(str(owner[run].path), category, slower, state.anchors, spread))
    return tuple(found)


def _why_apart(a: LatencyTable, b: LatencyTable, category: Category, state: State) -> str:
    if not state.anchors:
        reason = f"they share no {category} or reference that both measured undisturbed"
    elif not state.known:
        reason = f"the {state.anchors} workloads that both measured disagree about it"
    else:
        reason = (
            "the machine was more than 1.5 times as fast or slow, or what both measured is of"
            " another size"
        )
    return (
        f"nothing brings the {category}s of {b.path} to the state of {a.path}: {reason}. Measure"
        f" into one table instead: `lutra profile DEVICE -o {a.path}` with the space and"
        f" resolutions of {b.path} visits some of what it knows along"
    )


def _sum_up(table: LatencyTable, sources: Sequence[LatencyTable]) -> None:
    """Sum all visits up in the first state; a row is as done as in the best of the tables."""
    best: Rows = {}
    for source in sources:
        for row in source.rows():
            known = best.get((row.category, row.key))
            if row.measurement is not None and (
                known is None or _rank(row.measurement) > _rank(known)
            ):
                best[row.category, row.key] = row.measurement
    table.record_measurements(best)
    rules = {
        "op": OP_PROTOCOL.rule,
        "network": NETWORK_PROTOCOL.rule,
        "reference": OP_PROTOCOL.rule,
    }
    VisitRecord(table, rules).bring_everything([])  # type: ignore[arg-type]
    flagged = {
        (row.category, row.key): replace(row.measurement, status="partial")
        for row in table.rows()
        if row.measurement and row.measurement.flags and not best[row.category, row.key].flags
    }
    table.record_measurements(flagged)


def _rank(measurement: Measurement) -> int:
    return _RANKS.index(measurement.status)
