"""Machines as the scripted device plays them: their state changes, and others work on them."""

from __future__ import annotations

import random
from pathlib import Path

from lutra.devices.base import SystemShare
from lutra.devices.fake import FakeScript, latency_from_size
from lutra.profiler.protocols import TimingProtocol
from lutra.profiler.stopping import StoppingRule

ONE_ROUND = TimingProtocol(rule=StoppingRule(min_rounds=1, min_processes=1, max_rounds=1))
"""Enough where a machine says the same again and again."""

_NETWORK_MS = 1.0  # models that take longer have weights that do not stay close


def machine(scale: float = 1.0, constant_ms: float = 0.0, noise: float = 0.005) -> FakeScript:
    """One on which everything takes ``scale`` as long, and each network ``constant_ms`` more.

    That is what a shared cache does whose neighbours take it: weights come from memory.
    """

    def latency_ms(path: Path) -> float:
        own = latency_from_size(path)
        return scale * own + (constant_ms if own > _NETWORK_MS else 0.0)

    return FakeScript(latency_ms, noise=noise, keeps_models=True)


class Neighbours:
    """Others at work on the machine, by the requests answered so far; some or all kinds of them.

    ``core`` computes on our core in one of twelve spells, as the kernel tells. ``cache`` streams
    through the last cache, which networks feel and ops hardly do, for a third of the time and
    a hundred requests at once. ``memory`` has short bursts that everything feels. Each process
    has each model somewhere else in memory, for better or worse.
    """

    def __init__(self, kinds: frozenset[str], seed: int = 0) -> None:
        self._kinds = kinds
        self._seed = seed
        self.script = FakeScript(
            self._latency_ms, noise=0.005, keeps_models=True, system=self._system, seed=seed
        )

    def _spell(self, kind: str, length: int, share: float) -> bool:
        """Whether a spell of so many requests is one of the share that the kind has."""
        if kind not in self._kinds:
            return False
        spell = self.script.answered // length
        return random.Random(f"{kind}/{self._seed}/{spell}").random() < share

    def _shares_core(self) -> bool:
        return self._spell("core", 7, 1 / 12)

    def _system(self, _: int) -> SystemShare:
        return SystemShare(0.3 if self._shares_core() else 0.0, 0.0, 0, 0, 0.0)

    def _latency_ms(self, path: Path) -> float:
        own = latency_from_size(path)
        whole = own > _NETWORK_MS
        place = random.Random(f"{self._seed}/{path.stat().st_size}/{self.script.processes}")
        factor = place.gauss(1.0, 0.01)
        if self._shares_core():
            factor *= 1.5
        if self._spell("cache", 100, 1 / 3):
            factor *= 1.15 if whole else 1.03
        if self._spell("memory", 20, 1 / 10):
            factor *= 1.25
        return own * factor
