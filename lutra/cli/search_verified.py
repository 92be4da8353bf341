"""lutra search --verify: measure what is found, and search again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lutra
from lutra.cli.output import note, progress, watch
from lutra.errors import UsageError


@dataclass(frozen=True)
class Verification:
    """Where and how surely the budget is to be kept, if it is to be ``verify``-ed."""

    table: Path
    device: str | None
    confidence: float
    verify: bool

    def require(self, latency_ms: float | None) -> None:
        """Raise `UsageError` where measuring lacks a budget, or a device what to measure."""
        if self.verify and latency_ms is None:
            raise UsageError("--verify needs the budget that is to be kept: --max-latency 20ms")
        if self.device is not None and not self.verify:
            raise UsageError("--device goes with --verify")

    def search(
        self, asked: dict[str, Any], on_result: Callable[[lutra.SearchResult], None]
    ) -> lutra.SearchResult:
        """Search and measure."""
        with progress("verify") as report:
            return lutra.find_within_budget(
                self.table,
                device=self.device,
                confidence=self.confidence / 100.0,
                watch=watch(report),
                on_result=on_result,
                **asked,
            )


def note_closed_loop(result: lutra.SearchResult) -> None:
    """What was found, and what caution cost."""
    loop, best = result.closed_loop, result.best
    if loop is None or best.verified is None or loop.accuracy_cost is None:
        return
    slack = 1.0 - best.verified.measured_ms / result.limits["latency_ms"]
    cost = loop.accuracy_cost
    note(
        f"the first one keeps the budget with {100 * slack:.1f} % to spare; what a search that"
        f" measures nothing proposes is predicted {abs(cost):.2f} points"
        f" {'more' if cost >= 0 else 'less'} accurate"
    )
