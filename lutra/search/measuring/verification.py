"""Verify: measure what a search found end to end, on the device it was found for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lutra.errors import NotATableError, TableError, TransientDeviceError, UsageError
from lutra.files.scratch import scratch_folder
from lutra.profiler.bench import Bench, DeviceOrSpec, bench_of_target
from lutra.profiler.gate import reference_baseline
from lutra.profiler.plan import nearest
from lutra.profiler.protocols import NETWORK_PROTOCOL, TimingProtocol
from lutra.profiler.statistics import process_spread
from lutra.profiler.watch import UNWATCHED, Watch
from lutra.profiler.workload import Workload, network_workload
from lutra.search.candidate import Candidate, Verified
from lutra.search.measuring.caution import CONFIDENCE, deviations_of, upper_ms
from lutra.search.measuring.memory import with_memory
from lutra.search.result import SearchResult
from lutra.spaces import get_space
from lutra.tables import LatencyTable, Measurement
from lutra.tables.measurement import CALIBRATE, VERIFY, is_architecture
from lutra.tables.profiled import device_of
from lutra.tables.states import State, States, Unlike, fit_state, visits_in_one_state

_ANCHORS = 8
_FEW_ANCHORS = 4  # where a visit takes a process, or a second to raise the clock


def verify(
    result: SearchResult | str | Path,
    *,
    device: DeviceOrSpec | None = None,
    count: int = 1,
    memory: bool = False,
    watch: Watch = UNWATCHED,
) -> SearchResult:
    """The result, or the one in a file, with its first ``count`` candidates measured, in ms.

    Each is measured as the table of its precision was. With ``memory`` it is also loaded and run in
    a process of its own: what that takes, in bytes, is its `MeasuredMemory`. The file stays as it
    is: `SearchResult.write` writes the new one. ``device`` is by default that of the table. Raises
    `ResultError` for a file that holds no result, `UsageError` when the device must be named,
    `TargetMismatchError` when it is not the one of the search, and `DeviceError` (transient when a
    network could not be measured).

    >>> result = verify("result.json", device="cpu")
    >>> result.best.verified.measured_ms > 0
    True
    """
    if not isinstance(result, SearchResult):
        result = SearchResult.read(result)
    result.target.require_measurable(result.table)
    chosen = result.candidates[:count]
    found: dict[str | None, Iterator[Candidate]] = {}
    for precision in dict.fromkeys(each.precision for each in chosen):
        own = tuple(each for each in chosen if each.precision == precision)
        part = replace(result.at(precision), candidates=own)
        with bench_of_target(device or _device_of(part), part.target) as bench:
            measured = verify_on(bench, part, count, memory=memory, watch=watch)
            found[precision] = iter(measured.candidates)
    verified = (next(found[each.precision]) for each in chosen)
    return replace(result, candidates=(*verified, *result.candidates[count:]))


def _device_of(result: SearchResult) -> str:
    try:
        with LatencyTable.open(result.table) as table:
            return device_of(table)
    except NotATableError as error:
        raise UsageError(
            f"the device to verify on is not known: {error}. Name it: verify(result, device=...)"
        ) from error


def verify_on(
    bench: Bench,
    result: SearchResult,
    count: int = 1,
    protocol: TimingProtocol = NETWORK_PROTOCOL,
    watch: Watch = UNWATCHED,
    *,
    memory: bool = False,
) -> SearchResult:
    """`verify` on a bench that is open."""
    result.target.require(bench.target, "the search result")
    space = get_space(result.space)
    chosen = result.candidates[:count]
    workloads = [
        network_workload(space, candidate.architecture, VERIFY, bench.emission)
        for candidate in chosen
    ]
    anchors = _anchors(bench, result, [candidate.predicted_ms for candidate in chosen])
    with (
        scratch_folder() as folder,
        LatencyTable.create(folder / "verify.lut", bench.target) as table,
    ):
        bench.measure(
            table,
            [*workloads, *(anchor for anchor in anchors if anchor not in workloads)],
            protocol,
            watch=watch,
            reference_ms=result.reference_ms,
        )
        rows = {row.key: row for row in table.rows("network")}
        now_ms = {key: row.measurement.latency_ms for key, row in rows.items() if row.measurement}
        now_ms |= reference_baseline(table)
        spread = process_spread(visits_in_one_state(table, "network").values())
    if memory:
        chosen = with_memory(bench, chosen, workloads, protocol.limit_seconds, watch)
    state, unlike = _state(result, now_ms), _unlike(result)
    loop = result.closed_loop
    deviations = deviations_of(loop.confidence if loop else CONFIDENCE)
    verified = []
    for candidate in chosen:
        row = rows.get(candidate.architecture.key)
        if row is None or row.measurement is None:
            reason = row.failure.message if row and row.failure else "it was not reached"
            raise TransientDeviceError(f"the found network could not be measured: {reason}")
        budget = result.limits.get("latency_ms")
        verified.append(
            _verified(candidate, row.measurement, state, unlike, budget, spread, deviations)
        )
    return replace(result, candidates=(*verified, *result.candidates[count:]))


def _anchors(bench: Bench, result: SearchResult, near_ms: Sequence[float]) -> list[Workload]:
    """Of the table's networks that the result has, those that take about as long, in turns.

    A slower machine costs networks of one size about the same.
    """
    count = _ANCHORS if bench.session.keeps_models else _FEW_ANCHORS
    keys = nearest(result.anchors_ms, near_ms, count)
    space = get_space(result.space)
    return [
        network_workload(space, architecture, CALIBRATE, bench.emission)
        for key in keys
        if (architecture := space.from_key(key)) is not None
    ]


def _state(result: SearchResult, now_ms: Mapping[str, float]) -> State:
    """What the machine is now to what it was when the table was made, by networks of both.

    Without any, as for a table of a GPU that was not calibrated, by the small references.
    """
    networks = {key: ms for key, ms in result.reference_ms.items() if is_architecture(key)}
    known = {**networks, **result.anchors_ms} or result.reference_ms
    common = [key for key in known if key in now_ms]
    then, now = ([values[key] for key in common] for values in (known, now_ms))
    return fit_state(then, now, constant=known is not result.reference_ms)


def _unlike(result: SearchResult) -> Unlike:
    """How networks differ from the states of runs: as the table's own did, where that is there."""
    with suppress(TableError), LatencyTable.open(result.table) as table:
        result.target.require(table.target, result.table)
        return States(table).unlike
    return Unlike()


def _verified(
    candidate: Candidate,
    measured: Measurement,
    state: State,
    unlike: Unlike,
    budget: float | None,
    process_spread: float,
    deviations: float,
) -> Candidate:
    factor = state.factor(measured.latency_ms)
    steady_ms = factor * measured.latency_ms
    upper = upper_ms(
        steady_ms,
        factor * measured.ci_high_ms,
        process_spread,
        deviations,
        brought=unlike.error(1.0 / factor - 1.0),
    )
    reached = state.reaches(measured.latency_ms)
    flags = measured.flags if reached else dict.fromkeys((*measured.flags, "drift"))
    return replace(
        candidate,
        verified=Verified(
            measured_ms=steady_ms,
            raw_ms=measured.latency_ms,
            ci_low_ms=factor * measured.ci_low_ms,
            ci_high_ms=factor * measured.ci_high_ms,
            upper_ms=upper,
            within_budget=None if budget is None else upper <= budget,
            error_percent=100.0 * (candidate.predicted_ms / steady_ms - 1.0),
            flags=tuple(flags),
        ),
    )
