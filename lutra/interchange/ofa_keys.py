"""The keys that OFA's latency tables have for ops: one way to say them for each kind of table.

They are what the authors' estimators ask their tables for (`ofa.nas.efficiency_predictor`, Cai et
al., "Once-for-All", ICLR 2020), and NSGANetV2's (Lu et al., ECCV 2020). Shapes are HxWxC::

    expanded_conv-input:112x112x24-output:56x56x32-expand:144-kernel:3-stride:2-idskip:0-se:0-hs:0
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lutra.errors import UsageError
from lutra.ops import Conv, Linear, MBConv, OpConfig, Pool
from lutra.spaces import SearchSpace


@dataclass(frozen=True)
class Dialect:
    """How a kind of table, of this ``name`` here, names ops.

    ``stem`` is the first convolution, ``normed`` a 1x1 with batch norm, ``plain`` one without;
    ``pooling`` is None where no row is the pooling's. ``block`` and ``classifier`` make a key: the
    latter's pooling may count with it. ``holds_several`` resolutions in one file it may.
    """

    name: str
    stem: str
    normed: str
    plain: str
    pooling: str | None
    block: Callable[[MBConv], str]
    classifier: Callable[[Linear, Pool], str]
    holds_several: bool = False

    def keys(self, space: SearchSpace, resolution: int) -> dict[OpConfig, str | None]:
        """The key of each op that the space has at a resolution; None for what has no row.

        Raises `UsageError` for a space that OFA's tables have no keys for.
        """
        ops = space.ops_at([resolution])
        pool = next((op for op in ops if isinstance(op, Pool) and op.pooling == "global"), None)
        return {op: self._key(op, pool, space) for op in ops}

    def stem_key(self, space: SearchSpace, resolution: int) -> str | None:
        """The key of the op that an image comes into: it tells a table's resolution."""
        keys = self.keys(space, resolution)
        return next(key for op, key in keys.items() if op.input_shape.height == resolution)

    def _key(self, op: OpConfig, pool: Pool | None, space: SearchSpace) -> str | None:
        match op:
            case Conv(residual=False, groups=1):
                layer = self.normed if op.bias == "batchnorm" else self.plain
                return _layer(layer if op.kernel == 1 else self.stem, op)
            case MBConv():
                return self.block(op)
            case Pool(pooling="global"):
                return None if self.pooling is None else _layer(self.pooling, op)
            case Linear() if pool is not None:
                return self.classifier(op, pool)
        raise UsageError(
            f"OFA's latency tables have no rows for {space.name}: tables of its MobileNetV3 and"
            " ProxylessNAS can be imported"
        )


def _layer(name: str, op: OpConfig) -> str:
    return f"{name}-input:{op.input_shape}-output:{op.output_shape}"


def _block(name: str, op: MBConv, expand: int) -> str:
    return (
        f"{_layer(name, op)}-expand:{expand}-kernel:{op.kernel}-stride:{op.stride}"
        f"-idskip:{op.residual:d}"
    )


def _ratio(op: MBConv) -> int:
    return round(op.mid_channels / op.input_shape.channels)


def _mobilenet_block(op: MBConv) -> str:
    hard_swish = op.activation == "h_swish"
    return f"{_block('expanded_conv', op, op.mid_channels)}-se:{op.se:d}-hs:{hard_swish:d}"


DIALECTS: Sequence[Dialect] = (
    # OFA-MobileNetV3's: blocks by their middle channels.
    Dialect(
        "ofa-mbv3",
        "Conv",
        "Conv_1",
        "Conv_2",
        "AvgPool2D",
        _mobilenet_block,
        lambda op, pool: f"Logits-input:{op.input_shape}-output:{op.out_features}",
    ),
    # OFA-ProxylessNAS's: blocks by their ratio, the pooling within the classifier.
    Dialect(
        "ofa-proxyless",
        "Conv",
        "Conv_1",
        "Conv_2",
        None,
        lambda op: _block("expanded_conv", op, _ratio(op)),
        lambda op, pool: f"Logits-input:{pool.input_shape}-output:{op.out_features}",
    ),
    # NSGANetV2's of OFA-MobileNetV3: all resolutions in one file; the pooling is not counted.
    Dialect(
        "nsganetv2",
        "first_conv",
        "final_expand_layer",
        "feature_mix_layer",
        None,
        lambda op: f"{_block('MBConv', op, _ratio(op))}-se:{op.se:d}",
        lambda op, pool: f"classifier-input:{op.input_shape.channels}-output:{op.out_features}",
        holds_several=True,
    ),
)


def dialect_of(name: str | None, space: SearchSpace) -> Dialect:
    """The dialect of a name, or the one of the ``ofa`` package's estimator for a space.

    Raises `UsageError` for an unknown name.
    """
    known = {dialect.name: dialect for dialect in DIALECTS}
    if name is None:
        return next((known[each] for each in known if space.name.startswith(each)), DIALECTS[0])
    if name not in known:
        raise UsageError(f"unknown dialect '{name:.40}'; known: {', '.join(known)}")
    return known[name]
