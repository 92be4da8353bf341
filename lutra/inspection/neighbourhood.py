"""What an op should take, by what ops like it take: robust fits of logarithms.

Latency goes roughly as a product of powers of an op's MACs, bytes and kernel size, so its logarithm
is fitted linearly, with large errors counted little (Huber, "Robust Estimation of a Location
Parameter", 1964). What remains is common to ops that are alike, such as depthwise 7x7 kernels that
a runtime has no fast path for: so an op is compared with the median of its nearest ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lutra.ops import OpConfig

Floats = npt.NDArray[np.float64]

_NEAREST = 12
_KERNEL = 7  # among the features
_KERNEL_FIRST = 3.0  # ops of one kernel size are nearer: cliffs go by it
_STEPS = 8
_HUBER = 1.5
_DEVIATIONS = 1.4826  # of a normal distribution in one median absolute deviation


def features_of(ops: Sequence[OpConfig]) -> Floats:
    """(ops, features): what the latency of an op goes with, as logarithms."""
    known = {op: _features(op) for op in dict.fromkeys(ops)}
    return np.array([known[op] for op in ops], dtype=np.float64)


def _features(op: OpConfig) -> list[float]:
    attributes = op.attributes()
    sizes = (
        op.macs,
        op.activation_bytes,
        op.weight_bytes,
        op.input_shape.channels,
        op.output_shape.channels,
        op.output_shape.height,
        *(attributes.get(name, 1) for name in ("mid", "k", "s")),
    )
    return [*(np.log(max(float(size), 1.0)) for size in sizes), float(len(op.graph.nodes))]


def pace_fit(features: Floats, logarithms: Floats) -> Floats:
    """(rows, features), (rows,) -> (rows,): what a fit of all rows expects of each."""
    design = np.column_stack([np.ones(len(features)), features])
    weights = np.ones(len(features))
    for _ in range(_STEPS):
        root = np.sqrt(weights)
        terms = np.linalg.lstsq(design * root[:, None], logarithms * root, rcond=None)[0]
        errors = np.abs(logarithms - design @ terms)
        scale = max(_DEVIATIONS * float(np.median(errors)), 1e-12)
        weights = 1.0 / np.maximum(1.0, errors / (_HUBER * scale))
    expected: Floats = design @ terms
    return expected


def locally_expected(ops: Sequence[OpConfig], features: Floats, apart: Floats) -> Floats:
    """(rows,): the median of what remains for the ops nearest to each row's, not its own."""
    distinct = {op: place for place, op in enumerate(dict.fromkeys(ops))}
    own = np.array([distinct[op] for op in ops])
    first = np.unique(own, return_index=True)[1]
    order = np.argsort(own, kind="stable")
    pieces = np.split(apart[order], np.cumsum(np.bincount(own))[:-1])
    remains = np.array([np.median(piece) for piece in pieces])
    scaled = _standardised(features[first])
    scaled[:, _KERNEL] *= _KERNEL_FIRST
    squares = (scaled**2).sum(axis=1)
    distances = squares[:, None] + squares - 2.0 * scaled @ scaled.T
    np.fill_diagonal(distances, np.inf)
    count = min(_NEAREST, len(remains) - 1)
    nearest = np.argpartition(distances, count - 1, axis=1)[:, :count]
    expected: Floats = np.median(remains[nearest], axis=1)[own]
    return expected


def _standardised(features: Floats) -> Floats:
    centred = features - features.mean(axis=0)
    spread = centred.std(axis=0)
    scaled: Floats = centred / np.where(spread > 0, spread, 1.0)
    return scaled
