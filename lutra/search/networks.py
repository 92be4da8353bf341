"""Whole networks measured end to end, for calibration, validation and verification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lutra.profiler.run import Protocol
from lutra.profiler.stopping import StoppingRule
from lutra.tables import Visit
from lutra.tables.drift import Drift

NETWORK_PROTOCOL = Protocol(
    seconds=0.1,
    warmup_seconds=0.03,
    block_seconds=0.001,
    reference_every=2,
    cool_share=0.5,
    rule=StoppingRule(min_rounds=6, max_rounds=16),
)


def with_rounds(protocol: Protocol, rounds: int | None) -> Protocol:
    """The protocol with another least number of rounds."""
    if rounds is None:
        return protocol
    rule = replace(
        protocol.rule, min_rounds=rounds, max_rounds=max(rounds, protocol.rule.max_rounds)
    )
    return replace(protocol, rule=rule)


def repeatability_percent(visits: Sequence[Visit], drift: Drift | None = None) -> float | None:
    """How far the odd and the even rounds' medians of one network lie apart, in percent."""
    visits = [drift.corrected(visit) for visit in visits] if drift else visits
    steady = [visit for visit in visits if not visit.flags] or list(visits)
    halves = [[visit.low_ms for visit in steady if visit.round % 2 == parity] for parity in (0, 1)]
    if not all(halves):
        return None
    first, second = (float(np.median(half)) for half in halves)
    return 200.0 * abs(first - second) / (first + second)
