"""How a run measures: how long, in which blocks, how often, and when it is enough."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lutra.devices.base import Session
from lutra.profiler.stopping import StoppingRule

_SHORTER = 10.0
_SHORT_BLOCKS = 6
_PROCESS_ROUNDS = 2  # for each short visit in a long one: three processes for the least rounds
# docs/decisions.md: Short visits, many rounds
_SHORT_ENOUGH = 2.0  # an op's error counts for a twentieth of a network's, and they are independent
_SHORT_DRIFT, _SHORT_WAIT = 0.3, 0.1


@dataclass(frozen=True)
class TimingProtocol:
    """How a run measures; its defaults suit ops of tens of microseconds to tens of milliseconds.

    A visit warms up for ``warmup_seconds``, then times blocks of ``block_seconds`` for ``seconds``,
    and ``min_blocks`` at least; it is given up after ``limit_seconds``. References are visited
    before every ``reference_every`` workloads, for ``reference_seconds``. Beyond ``drift_limit``
    (0.08: 8 %) the run pauses for ``cool_seconds``, at most for ``cool_share`` of its time. A new
    process is begun every ``rounds_per_process`` rounds. ``rounds`` is the least number of rounds
    instead of the rule's. Where models stay loaded, ``short_visits`` take the place of each.
    """

    seconds: float = 0.04
    warmup_seconds: float = 0.01
    block_seconds: float = 0.002
    min_blocks: int = 3
    limit_seconds: float = 60.0
    reference_seconds: float = 0.008
    reference_every: int = 8
    rounds_per_process: int = 3
    drift_limit: float = 0.08  # docs/decisions.md: Waiting has an end
    cool_seconds: float = 0.25
    cool_share: float = 0.1
    rule: StoppingRule = field(default_factory=StoppingRule)
    rounds: int | None = None
    short_visits: int = 3
    seed: int = 0

    def suited_to(self, session: Session) -> TimingProtocol:
        """The protocol for a session.

        One that keeps models loaded gets short visits in many rounds, so that all workloads see
        the same states of the machine. A device that tells its clock times blocks between two
        events of its own, so that blocks must be long, and takes up to a second to raise its clock.
        Where visits come in batches, each is a process of its own on a phone that heats: it must
        last long against the process's start, and cooling takes real pauses. The gate is tighter on
        both.
        """
        if session.keeps_models:
            return self.in_short_visits()._with_rounds()
        if session.clocked:
            return replace(
                self._with_rounds(),
                warmup_seconds=max(self.warmup_seconds, 1.0),
                block_seconds=max(self.block_seconds, 0.005),
                reference_every=max(self.reference_every, 8),
                reference_seconds=max(self.reference_seconds, 0.02),
                drift_limit=0.05,
                cool_seconds=1.0,
                cool_share=0.3,
            )
        if session.batch == 1:
            return self._with_rounds()
        return replace(
            self._with_rounds(),
            seconds=max(self.seconds, 0.08),
            warmup_seconds=max(self.warmup_seconds, 0.02),
            reference_seconds=max(self.reference_seconds, 0.04),
            drift_limit=0.05,
            cool_seconds=5.0,
            cool_share=0.5,
        )

    def in_short_visits(self) -> TimingProtocol:
        """Each visit cut into some short ones, each in a round of its own.

        As many rounds for each workload: those that went on alone would see another machine.
        """
        rounds = self.short_visits * self.rule.min_rounds
        rule = replace(
            self.rule,
            min_rounds=rounds,
            max_rounds=rounds,
            half_width=_SHORT_ENOUGH * self.rule.half_width,
        )
        return replace(
            self,
            seconds=self.seconds / _SHORTER,
            warmup_seconds=self.warmup_seconds / _SHORTER,
            block_seconds=self.block_seconds / _SHORTER,
            min_blocks=_SHORT_BLOCKS,
            reference_seconds=self.reference_seconds / 2,
            reference_every=3 * self.reference_every,
            rounds_per_process=_PROCESS_ROUNDS * self.short_visits,
            drift_limit=_SHORT_DRIFT,
            cool_share=min(self.cool_share, _SHORT_WAIT),
            rule=rule,
        )

    def _with_rounds(self) -> TimingProtocol:
        if self.rounds is None:
            return self
        most = max(self.rounds, self.rule.max_rounds)
        return replace(self, rule=replace(self.rule, min_rounds=self.rounds, max_rounds=most))


OP_PROTOCOL = TimingProtocol()
NETWORK_PROTOCOL = TimingProtocol(
    seconds=0.1,
    warmup_seconds=0.03,
    block_seconds=0.001,
    reference_every=2,
    cool_share=0.5,
    short_visits=2,
    rule=StoppingRule(min_rounds=6, max_rounds=8),
)
