"""Another table of the same ops as a prior: what a similar device says before any is measured."""

# docs/decisions.md: Another table as a prior

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lutra.errors import NotATableError, TableError, TargetMismatchError
from lutra.ops import OpConfig
from lutra.predictors.filling.nodes import Floats
from lutra.predictors.filling.process import Baseline
from lutra.spaces import SearchSpace
from lutra.tables import LatencyTable
from lutra.tables.documents import PRIOR, read_document, store_document

_SLOPE_ROWS = 0.4  # how much it weighs that what takes twice as long there does so here


@dataclass(frozen=True)
class PriorUse:
    """How unsure what was filled in is with a prior and without: half of the 95 % intervals,
    relative, in the median. The narrower is taken.
    """

    with_percent: float
    without_percent: float

    @property
    def taken(self) -> bool:
        """Whether ops were filled in by the prior."""
        return self.with_percent < self.without_percent


@dataclass(frozen=True)
class Prior:
    """What the table in ``file``, of the device and setting ``target``, says of ops by their keys:
    ``latencies_ms``, and by ``deviations`` how unsure that is, relative (0 where it was measured).

    ``use`` is what came of it the last time.
    """

    file: str
    target: str
    latencies_ms: Mapping[str, float]
    deviations: Mapping[str, float] = field(default_factory=dict)
    use: PriorUse | None = None

    def with_filled(self, filled: Mapping[str, Any]) -> Prior:
        """With what was filled in for ops that it does not know."""
        found = {key: each for key, each in filled.items() if key not in self.latencies_ms}
        return replace(
            self,
            latencies_ms={key: each.latency_ms for key, each in found.items()}
            | dict(self.latencies_ms),
            deviations={key: each.deviation_ms / each.latency_ms for key, each in found.items()}
            | dict(self.deviations),
        )

    def baseline(
        self, plain: Baseline, ops: Sequence[OpConfig], scale: tuple[float, float]
    ) -> Baseline:
        """The ``plain`` baseline of these ops, at what the prior says of them by `scale`.

        What each node has of an op stays as it is.
        """
        constant, slope = scale
        latency_ms = np.exp(constant + slope * self._logarithms(ops))
        unsure = slope * np.array([self.deviations.get(op.key, 0.0) for op in ops])
        return replace(plain, latency_ms=latency_ms, unsure=unsure)

    def scale(self, ops: Sequence[OpConfig], seen_ms: Floats) -> tuple[float, float]:
        """The constant and the slope by which the logarithms of what ops took (ops,) follow it."""
        theirs, ours = self._logarithms(ops), np.log(seen_ms)
        apart = theirs - theirs.mean()
        slope = (apart @ ours + _SLOPE_ROWS) / (apart @ apart + _SLOPE_ROWS)
        slope = max(float(slope), 0.0)  # what takes longer there does not take less here
        return float(ours.mean() - slope * theirs.mean()), slope

    def _logarithms(self, ops: Sequence[OpConfig]) -> Floats:
        result: Floats = np.log(np.array([self.latencies_ms[op.key] for op in ops]))
        return result


def prior_of(path: str | Path, space: SearchSpace, precision: str) -> Prior:
    """What a table says of the ops of a space, to help tell those of another of this precision.

    It may be of another device, runtime or day, and need not be complete. What others measured,
    which an import says at each resolution, is averaged over those. Raises `TargetMismatchError`
    for another precision, `TableError` for a table without ops of the space or that is none.
    """
    with LatencyTable.open(path) as table:
        target = table.target
        if not target.is_imported and target.precision != precision:
            raise TargetMismatchError(
                f"{path} is of {target.precision} and tells little of {precision}: other kernels"
                " run; name a table of the same precision as a prior"
            )
        own = {op.key for op in space.ops}
        known = {**_imported(table), **table.op_latencies()}
        known = {key: each for key, each in known.items() if key in own and each > 0.0}
        filled = {key: each for key, each in table.filled().items() if key in own}
        if not known and not filled:
            raise TableError(
                f"{path} knows no op of {space.name}, so it says nothing of those to be filled in;"
                " name a table of the same space as a prior"
            )
        return Prior(Path(path).name, target.summary(), known).with_filled(filled)


def _imported(table: LatencyTable) -> dict[str, float]:
    found = defaultdict(list)
    for (key, _), latency_ms in table.imported_latencies().items():
        found[key].append(latency_ms)
    return {key: float(np.mean(values)) for key, values in found.items()}


def store_prior(table: LatencyTable, space: str, prior: Prior) -> None:
    """Keep a prior in a table, open for writing, for all times that ops are filled in."""
    store_document(table, PRIOR, space, asdict(prior))


def read_prior(table: LatencyTable, space: str) -> Prior | None:
    """The prior that a table keeps for a space; None without one. Raises `NotATableError`."""
    document = read_document(table, PRIOR, space)
    if document is None:
        return None
    try:
        return _read(document)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise NotATableError(
            f"{table.path} is damaged: its prior is not as lutra writes it;"
            " `lutra profile --sample` with --prior stores another"
        ) from error


def _read(document: Mapping[str, Any]) -> Prior:
    use = document["use"]
    if use is not None:
        use = PriorUse(float(use["with_percent"]), float(use["without_percent"]))
    prior = Prior(
        str(document["file"]),
        str(document["target"]),
        {key: float(value) for key, value in document["latencies_ms"].items()},
        {key: float(value) for key, value in document["deviations"].items()},
        use,
    )
    if not (
        all(0.0 < value < math.inf for value in prior.latencies_ms.values())
        and all(0.0 <= value < math.inf for value in prior.deviations.values())
    ):
        raise ValueError("not a prior")
    return prior
