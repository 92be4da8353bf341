"""The course of a single-path search: cross-entropy and latency, step by step."""

from __future__ import annotations

from lutra.report.figures.drawing import FAINT, SERIES, Drawing, styled
from lutra.search.training.single_path import SinglePathSearch

_SMOOTHED = 20  # steps; single batches differ more than the course does


@styled
def search_curve(found: SinglePathSearch) -> Drawing:
    """Cross-entropy, a mean of some steps, above the predicted latency in ms with its budget."""
    steps = range(1, len(found.steps) + 1)
    drawing = Drawing(rows=2, inches_high=4.2)
    losses, latencies = drawing.axes
    means = _running_means([step.cross_entropy for step in found.steps])
    losses.plot(steps, means, color=SERIES[0], linewidth=1.0)
    losses.set_ylabel("cross-entropy")
    latencies.plot(
        steps, [step.runtime_ms for step in found.steps], color=SERIES[1], linewidth=1.0,
        label="predicted, as it is",
    )  # fmt: skip
    budget_ms = found.result.limits.get("latency_ms")
    if budget_ms is not None:
        latencies.axhline(budget_ms, color=FAINT, linestyle="--", linewidth=1.0, label="budget")
    best = found.result.best
    latencies.plot([steps[-1]], [best.predicted_ms], "o", color=SERIES[2], label="chosen")
    latencies.set_ylabel("latency, ms")
    latencies.set_xlabel("step")
    latencies.legend(loc="upper right")
    return drawing


def _running_means(values: list[float]) -> list[float]:
    windows = (values[max(0, end - _SMOOTHED) : end] for end in range(1, len(values) + 1))
    return [sum(window) / len(window) for window in windows]
