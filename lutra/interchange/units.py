"""Whether numbers of others can be milliseconds."""

from __future__ import annotations

from lutra.errors import NotATableError

# Multiply-accumulates per ms. A phone's core does 1e7, a small board's 1e5, a GPU with one image
# 1e8: what is beyond these is of another unit.
_LEAST_MACS_PER_MS, _MOST_MACS_PER_MS = 2e4, 1e9


def require_pace(what: str, macs: float, total_ms: float) -> None:
    """Raise `NotATableError` where no device is as fast, or as slow, as the numbers say.

    ``macs`` are multiply-accumulates that take ``total_ms`` by them; ``what`` names both.
    """
    pace = macs / total_ms
    if not _LEAST_MACS_PER_MS <= pace <= _MOST_MACS_PER_MS:
        unit, factor = ("seconds", "1000") if pace > _MOST_MACS_PER_MS else ("ns or us", "0.001")
        raise NotATableError(
            f"{what} would do {pace * 1e3:.2g} multiply-accumulates a second, so its latencies are"
            f" not ms; where they are {unit}, multiply them by {factor}"
        )
