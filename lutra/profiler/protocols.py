"""How a run measures: how long, in which blocks, how often, and when it is enough."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lutra.devices.base import Session
from lutra.profiler.stopping import StoppingRule


@dataclass(frozen=True)
class TimingProtocol:
    """How a run measures; its defaults suit ops of tens of microseconds to tens of milliseconds.

    A visit warms up for ``warmup_seconds``, then times blocks of ``block_seconds`` for ``seconds``;
    it is given up after ``limit_seconds``. References that are visited by themselves, before every
    ``reference_every`` workloads, take ``reference_seconds``. Beyond ``drift_limit`` (0.08: 8 %)
    the run pauses for ``cool_seconds``, at most for ``cool_share`` of its time. A new process is
    begun every ``rounds_per_process`` rounds.
    """

    seconds: float = 0.04
    warmup_seconds: float = 0.01
    block_seconds: float = 0.002
    limit_seconds: float = 60.0
    reference_seconds: float = 0.008
    reference_every: int = 8
    rounds_per_process: int = 3
    drift_limit: float = 0.08  # docs/decisions.md: Waiting has an end
    cool_seconds: float = 0.25
    cool_share: float = 0.1
    rule: StoppingRule = field(default_factory=StoppingRule)
    seed: int = 0

    def suited_to(self, session: Session) -> TimingProtocol:
        """The protocol for a session.

        A device that tells its clock times blocks between two events of its own, so that blocks
        must be long, and takes up to a second to raise its clock. Where visits come
        in batches from a device that cannot pair, each is a process of its own on a phone that
        heats: it must last long against the process's start, and cooling takes real pauses. The
        gate is tighter on both.
        """
        if session.clocked:
            return replace(
                self,
                warmup_seconds=max(self.warmup_seconds, 1.0),
                block_seconds=max(self.block_seconds, 0.005),
                reference_every=max(self.reference_every, 8),
                reference_seconds=max(self.reference_seconds, 0.02),
                drift_limit=0.05,
                cool_seconds=1.0,
                cool_share=0.3,
            )
        if session.pairs_references or session.batch == 1:
            return self
        return replace(
            self,
            seconds=max(self.seconds, 0.08),
            warmup_seconds=max(self.warmup_seconds, 0.02),
            reference_seconds=max(self.reference_seconds, 0.04),
            drift_limit=0.05,
            cool_seconds=5.0,
            cool_share=0.5,
        )

    def with_rounds(self, rounds: int | None) -> TimingProtocol:
        """The protocol with another least number of rounds; as it is for None."""
        if rounds is None:
            return self
        most = max(rounds, self.rule.max_rounds)
        return replace(self, rule=replace(self.rule, min_rounds=rounds, max_rounds=most))


OP_PROTOCOL = TimingProtocol()
NETWORK_PROTOCOL = TimingProtocol(
    seconds=0.1,
    warmup_seconds=0.03,
    block_seconds=0.001,
    reference_every=2,
    cool_share=0.5,
    rule=StoppingRule(min_rounds=6, max_rounds=16),
)
