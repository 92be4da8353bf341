"""How many ops of a space to measure, where not all are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lutra.errors import UsageError
from lutra.predictors.filling.fill import LEAST_OPS
from lutra.predictors.filling.prior import Prior, prior_of
from lutra.spaces import SearchSpace


@dataclass(frozen=True)
class Sample:
    """A ``share`` of the ops (0.15: 15 %), or as many as ``seconds`` of measuring are enough for.

    A share of 0 measures whole networks alone, and tells from them what ops take. Raises
    `UsageError` unless it is one of the two, and possible.
    """

    share: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if (self.share is None) == (self.seconds is None):
            raise UsageError("a sample is a share of the ops or a time to measure some: name one")
        if self.share is not None and not 0.0 <= self.share <= 1.0:
            raise UsageError(f"a sample of {100 * self.share:g} % is not between 0 and 100 %")
        if self.seconds is not None and not self.seconds > 0.0:
            raise UsageError(f"a sample of {self.seconds:g} s has no time")

    def ops(self, all_ops: int, op_seconds: float, other_seconds: float) -> int:
        """How many of ``all_ops``: each takes so long, networks beside them ``other_seconds``.

        Raises `UsageError` where the time is too short for any to tell of others.
        """
        if self.share == 0.0:
            return 0
        if self.share is not None:
            return max(min(LEAST_OPS, all_ops), round(self.share * all_ops))
        assert self.seconds is not None
        count = int((self.seconds - other_seconds) / op_seconds)
        if count < LEAST_OPS:
            least = other_seconds + LEAST_OPS * op_seconds
            raise UsageError(
                f"a sample of {self.seconds:g} s is too short: networks and {LEAST_OPS} ops take"
                f" {least:.0f} s at least; allow more, or fewer --networks"
            )
        return min(count, all_ops)


def prior_for(
    sample: Sample | None, path: str | Path, table: str | Path, space: SearchSpace, precision: str
) -> Prior:
    """The prior in a table by which to fill in another, of which a sample is measured.

    Raises what `prior_of` does, and `UsageError` where a prior is of no use.
    """
    if sample is None or sample.share == 0.0:
        raise UsageError(
            "a prior helps to tell ops from those that a sample measures: it goes with --sample,"
            " above 0%"
        )
    if Path(path).resolve() == Path(table).resolve():
        raise UsageError(f"{path} is the table to be filled in: name another as its prior")
    return prior_of(path, space, precision)
