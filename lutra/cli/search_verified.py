"""lutra search --verify: measure what is found, and search again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import lutra
from lutra.cli.output import Report, note, progress, watch
from lutra.errors import UsageError

_INCOMPLETE = 3
_TOLD = 0.005  # points of accuracy that are more than none


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
        if self.verify:
            return
        source = click.get_current_context().get_parameter_source("confidence")
        if self.device is not None:
            raise UsageError("--device goes with --verify")
        if source is not click.core.ParameterSource.DEFAULT:
            raise UsageError("--confidence goes with --verify: without it nothing is measured")

    def measuring(self, report: Report) -> dict[str, Any]:
        """How a search that trains is to measure: the arguments of `lutra.train_single_path`."""
        from lutra.tables.profiled import device_of

        with lutra.LatencyTable.open(self.table) as opened:
            device = self.device or device_of(opened)
        return {
            "device": device,
            "confidence": self.confidence / 100.0,
            "watch": watch(report),
        }

    def exit_code(self, result: lutra.SearchResult) -> int:
        """3 where no network that was measured keeps the budget."""
        kept = result.closed_loop is not None and result.closed_loop.kept > 0
        return _INCOMPLETE if self.verify and not kept else 0

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
    if loop is None or best.verified is None or not loop.kept:
        return
    budget_ms, found = result.limits["latency_ms"], best.verified
    slack = 100.0 * (1.0 - found.measured_ms / budget_ms)
    price = 100.0 * (found.upper_ms - found.measured_ms) / budget_ms
    text = (
        f"the first one keeps the budget with {slack:.2g} % to spare, {price:.2g} % of which is for"
        f" {100 * loop.confidence:g} % of processes to keep it"
    )
    cost = loop.accuracy_cost
    if cost is not None and abs(cost) >= _TOLD:
        text += (
            f"; what a search that measures nothing proposes is predicted {abs(cost):.2f} points"
            f" {'more' if cost >= 0 else 'less'} accurate"
        )
    note(text)
