"""How ops add up: from their latencies to the latency of their network.

Plain sums over a table are biased: ops timed alone run from a warmer cache and pay their own
start and layout changes. A small model corrects that. It stays additive over ops, so searches
remain exact and fast, and every coefficient has a meaning::

    latency = constant + sum over ops of
              scale * alone_ms + per_unit_ms + border * border_mb + weights * weight_mb
              + per_kernel_ms * kernels + stages[its stage] * alone_ms

``alone_ms`` is the op's latency by itself, ``per_unit_ms`` what each op adds (tables store it by
that name), ``border_mb`` what the op reads and writes at its borders, ``weight_mb`` its weights,
both in fp32 megabytes, ``kernels`` the nodes of its graph: each is one kernel on a GPU, or a few.
A stage is the kind of op and its output channels: a correction for each is learnt where networks
are enough to tell. Where a host and its device work side by side, latency is the larger of two of
these (`launch.py`). All but the scale may be negative: an op alone also pays what a network does
not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lutra.errors import NotATableError
from lutra.ops import OpConfig

TERMS = ("scale", "per_unit_ms", "border_ms_per_mb", "weight_ms_per_mb", "per_kernel_ms")
_ADDED_LATER = frozenset({"per_kernel_ms", "stages"})
_MOST_COEFFICIENT = 1e12

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Composition:
    """Fitted coefficients; the default is the plain sum."""

    scale: float = 1.0
    per_unit_ms: float = 0.0
    border_ms_per_mb: float = 0.0
    weight_ms_per_mb: float = 0.0
    constant_ms: float = 0.0
    per_kernel_ms: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)

    def prices(self, features: Floats, stages: Sequence[str] = ()) -> Floats:
        """What each op adds to a network, in ms: (ops, terms and stages) -> (ops,)."""
        terms = [getattr(self, term) for term in TERMS]
        prices: Floats = features @ np.array(
            terms + [self.stages.get(name, 0.0) for name in stages]
        )
        return prices

    def own_parts(self, features: Floats, stages: Sequence[str] = ()) -> Floats:
        """What of `prices` grows with each op's own latency, in ms: the scale's and its stage's."""
        own = features.copy()
        own[:, 1 : len(TERMS)] = 0.0
        return self.prices(own, stages)

    def totals(self, features: Floats, stages: Sequence[str] = ()) -> Floats:
        """The latency of networks in ms, from their ops' summed features -> (N,)."""
        return self.prices(features, stages) + self.constant_ms

    def to_json(self) -> dict[str, Any]:
        """The dictionary that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: object) -> Composition:
        """Read stored coefficients, also of before a term was added; raises `NotATableError`."""
        names = set(asdict(cls()))
        damaged = NotATableError("the table's calibration is damaged; run `lutra calibrate` again")
        if not isinstance(document, Mapping):
            raise damaged
        stages = document.get("stages", {})
        terms = {name: value for name, value in document.items() if name != "stages"}
        if (
            not names - _ADDED_LATER <= set(document) <= names
            or not isinstance(stages, Mapping)
            or not all(map(_is_coefficient, (*terms.values(), *stages.values())))
        ):
            raise damaged
        return cls(
            **{name: float(value) for name, value in terms.items()},
            stages={name: float(value) for name, value in stages.items()},
        )


def _is_coefficient(value: object) -> bool:
    """Whether it is a number that a fit can have: sums of prices stay finite."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < _MOST_COEFFICIENT  # type: ignore[arg-type]


def op_features(ops: Sequence[OpConfig], latencies_ms: Floats) -> Floats:
    """(ops, terms and `stages_of`): what `Composition.prices` weighs; NaN where not measured."""
    borders = np.array([op.border_bytes for op in ops]) / 1e6
    weights = np.array([op.weight_bytes for op in ops]) / 1e6
    terms = np.stack(
        [latencies_ms, np.ones(len(ops)), borders, weights, kernel_counts(ops)], axis=1
    )
    own = np.array([_stage(op) for op in ops])
    in_stage = own[:, None] == np.array(stages_of(ops))
    features: Floats = np.hstack([terms, np.where(in_stage, latencies_ms[:, None], 0.0)])
    features[np.isnan(latencies_ms)] = np.nan
    return features


def stages_of(ops: Sequence[OpConfig]) -> tuple[str, ...]:
    """The stages that ops belong to, sorted: the columns of `op_features` behind the terms'."""
    return tuple(sorted({_stage(op) for op in ops}))


def _stage(op: OpConfig) -> str:
    return f"{op.kind}-{op.output_shape.channels}"


def kernel_counts(ops: Sequence[OpConfig]) -> Floats:
    """(ops,): the nodes of each op's graph."""
    return np.array([len(op.graph.nodes) for op in ops], dtype=np.float64)
