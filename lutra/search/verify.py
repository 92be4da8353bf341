"""Verify: measure what a search found end to end, on the device it was found for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lutra.errors import TransientDeviceError
from lutra.profiler.job import Bench
from lutra.profiler.run import Progress, Protocol
from lutra.profiler.subject import network_subject
from lutra.search.networks import NETWORK_PROTOCOL
from lutra.search.result import Candidate, SearchResult, Verified
from lutra.spaces import get_space
from lutra.tables import LatencyTable, Measurement
from lutra.tables.measurement import VERIFY


def verify(
    bench: Bench,
    result: SearchResult,
    *,
    count: int = 1,
    protocol: Protocol = NETWORK_PROTOCOL,
    budget_seconds: float = float("inf"),
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> SearchResult:
    """The result with its first ``count`` candidates measured.

    Raises `TargetMismatchError` when the device or setting is not the one of the search, and
    `TransientDeviceError` when a network could not be measured.
    """
    result.target.require(bench.target, "the search result")
    space = get_space(result.space)
    chosen = result.candidates[:count]
    subjects = [
        network_subject(space, candidate.architecture, VERIFY, bench.emission)
        for candidate in chosen
    ]
    with (
        tempfile.TemporaryDirectory(prefix="lutra-") as folder,
        LatencyTable.create(Path(folder) / "verify.lut", bench.target) as table,
    ):
        bench.measure(
            table,
            subjects,
            protocol,
            budget_seconds=budget_seconds,
            reference_ms=result.reference_ms,
            drift=result.drift,
            on_progress=on_progress,
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
