"""A machine whose state changes from day to day, as the scripted device plays it."""

from __future__ import annotations

from pathlib import Path

from lutra.devices.fake import FakeScript, latency_from_size

_NETWORK_MS = 1.0  # models that take longer have weights that do not stay close


def machine(scale: float = 1.0, constant_ms: float = 0.0, noise: float = 0.005) -> FakeScript:
    """One on which everything takes ``scale`` as long, and each network ``constant_ms`` more.

    That is what a shared cache does whose neighbours take it: weights come from memory.
    """

    def latency_ms(path: Path) -> float:
        own = latency_from_size(path)
        return scale * own + (constant_ms if own > _NETWORK_MS else 0.0)

    return FakeScript(latency_ms, noise=noise, keeps_models=True)
