"""What a network's runtime adds to its loss: at a price of its own, or as a budget asks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lutra.errors import UsageError

_STIFFNESS = 0.5  # of the quadratic term, per squared relative excess
_ASCENT = 2.0  # what the multiplier gains over a search per relative excess


class Pressure:
    """``multiplier`` * log(runtime); with a budget an augmented Lagrangian of their ratio's log.

    The multiplier begins at ``trade_off`` and, with a budget, grows while the runtime is above it
    and falls to 0 while it is below; what exceeds the budget costs its square, too (Hestenes, 1969;
    Rockafellar, 1973, for inequalities). ``budget_ms`` is in ms, of the runtimes that it is given.

    Raises `UsageError` for a trade-off below 0, and for one of 0 without a budget.
    """

    def __init__(self, trade_off: float, budget_ms: float | None) -> None:
        if not (math.isfinite(trade_off) and trade_off >= 0.0):
            raise UsageError(f"a trade-off of {trade_off:g} must be 0 or more, and finite")
        if trade_off == 0.0 and budget_ms is None:
            raise UsageError(
                "a single-path search needs what makes networks fast: --max-latency 5ms, or a"
                " --trade-off of accuracy for latency such as 0.1"
            )
        self.multiplier = trade_off
        self._budget_ms = budget_ms

    def of(self, runtime_ms: Tensor) -> Tensor:
        """What is added to the loss for a runtime (a scalar, ms)."""
        excess = torch.log(runtime_ms / (self._budget_ms or 1.0))
        added = self.multiplier * excess
        if self._budget_ms is not None:
            added = added + 0.5 * _STIFFNESS * excess.clamp_min(0.0).square()
        return added

    def advance(self, runtime_ms: float, share: float) -> None:
        """After a step that is ``share`` of the search: the multiplier follows the budget."""
        if self._budget_ms is not None:
            excess = math.log(runtime_ms / self._budget_ms)
            self.multiplier = max(0.0, self.multiplier + _ASCENT * share * excess)
