"""Verify: measure what a search found end to end, on the device it was found for."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from lutra.errors import NotATableError, TransientDeviceError, UsageError
from lutra.profiler.bench import Bench, DeviceOrSpec, bench_of_target
from lutra.profiler.protocols import NETWORK_PROTOCOL, TimingProtocol
from lutra.profiler.watch import UNWATCHED, Watch
from lutra.profiler.workload import network_workload
from lutra.search.result import Candidate, SearchResult, Verified
from lutra.spaces import get_space
from lutra.tables import LatencyTable, Measurement
from lutra.tables.measurement import VERIFY
from lutra.tables.profiled import device_of


def verify(
    result: SearchResult | str | Path,
    *,
    device: DeviceOrSpec | None = None,
    count: int = 1,
    watch: Watch = UNWATCHED,
) -> SearchResult:
    """The result, or the one in a file, with its first ``count`` candidates measured, in ms.

    The file stays as it is: `SearchResult.write` writes the new one. ``device`` is by default that
    of the table that was searched. Raises `ResultError` for a file that holds no result,
    `UsageError` when the device must be named, `TargetMismatchError` when it is not the one of the
    search, and `DeviceError` (transient when a network could not be measured).

    >>> result = verify("result.json", device="cpu")
    >>> result.best.verified.measured_ms > 0
    True
    """
    if not isinstance(result, SearchResult):
        result = SearchResult.read(result)
    with bench_of_target(device or _device_of(result), result.target) as bench:
        return verify_on(bench, result, count, watch=watch)


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
) -> SearchResult:
    """`verify` on a bench that is open."""
    result.target.require(bench.target, "the search result")
    space = get_space(result.space)
    chosen = result.candidates[:count]
    workloads = [
        network_workload(space, candidate.architecture, VERIFY, bench.emission)
        for candidate in chosen
    ]
    with (
        tempfile.TemporaryDirectory(prefix="lutra-") as folder,
        LatencyTable.create(Path(folder) / "verify.lut", bench.target) as table,
    ):
        bench.measure(
            table,
            workloads,
            protocol,
            watch=watch,
            reference_ms=result.reference_ms,
            drift=result.drift,
        )
        rows = {row.key: row for row in table.rows("network")}
    verified = []
    for candidate in chosen:
        row = rows.get(candidate.architecture.key)
        if row is None or row.measurement is None:
            reason = row.failure.message if row and row.failure else "it was not reached"
            raise TransientDeviceError(f"the found network could not be measured: {reason}")
        verified.append(_verified(candidate, row.measurement, result.limits.get("latency_ms")))
    return replace(result, candidates=(*verified, *result.candidates[count:]))


def _verified(candidate: Candidate, measured: Measurement, budget: float | None) -> Candidate:
    return replace(
        candidate,
        verified=Verified(
            measured_ms=measured.latency_ms,
            ci_low_ms=measured.ci_low_ms,
            ci_high_ms=measured.ci_high_ms,
            within_budget=None if budget is None else measured.latency_ms <= budget,
            error_percent=100.0 * (candidate.predicted_ms / measured.latency_ms - 1.0),
            flags=measured.flags,
        ),
    )
