"""Where each node's weights are in a supernet's state dictionary: the names of OFA's own code.

Published checkpoints have them (mit-han-lab/once-for-all, ``*_d234_e346_k357_*``), so ours do too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lutra.errors import UsageError
from lutra.spaces.base import SearchSpace
from lutra.spaces.mbconv_spaces import MBConvSpace
from lutra.spaces.registry import get_space
from lutra.spaces.resnet50d import BLOCKS, ResNet50DSpace
from lutra.spaces.widths import WidthSpace


@dataclass(frozen=True)
class NodeNames:
    """The modules of one node: what holds its weight and bias, and its batch normalisation.

    ``transforms`` is the module that holds the matrices between kernel sizes, for an elastic
    kernel.
    """

    layer: str
    norm: str | None = None
    transforms: str | None = None


@dataclass(frozen=True)
class Layout:
    """A family's names: a prefix per slot (as `SearchSpace.op_indices` has them), nodes by name."""

    slots: Sequence[tuple[str, dict[str, NodeNames]]]
    norm_epsilon: float

    def names(self, slot: int, node: str) -> NodeNames:
        """The modules of a slot's node, named as within the op."""
        prefix, nodes = self.slots[slot]
        found = nodes[node]

        def within(module: str | None) -> str | None:
            return None if module is None else f"{prefix}.{module}"

        return NodeNames(f"{prefix}.{found.layer}", within(found.norm), within(found.transforms))


def layout_of(space: SearchSpace) -> Layout:
    """Raises `UsageError` for a space of no family that has a supernet."""
    match space:
        case MBConvSpace():
            return _mbconv_layout(space)
        case ResNet50DSpace():
            return _resnet_layout()
    raise UsageError(
        f"there are no supernets of space '{space.name}': lutra has OFA's families"
        " (ofa-mbv3, ofa-proxyless, ofa-resnet50d)"
    )


def norm_epsilon_of(space: SearchSpace) -> float:
    """What batch normalisations of a space's networks add to variances; raises `UsageError`."""
    if isinstance(space, WidthSpace):
        return norm_epsilon_of(get_space(space.base.space))
    return layout_of(space).norm_epsilon


def _plain(name: str) -> NodeNames:
    return NodeNames(f"{name}.conv", f"{name}.bn")


def _elastic(name: str) -> NodeNames:
    return NodeNames(f"{name}.conv.conv", f"{name}.bn.bn")


_CONV = {"conv": NodeNames("conv", "bn")}
_CLASSIFIER = {"linear": NodeNames("linear")}
_STATIC_MBCONV = {"depthwise": _plain("depth_conv"), "project": _plain("point_linear")}
_ELASTIC_MBCONV = {
    "expand": _elastic("inverted_bottleneck"),
    "depthwise": NodeNames("depth_conv.conv.conv", "depth_conv.bn.bn", "depth_conv.conv"),
    "se.reduce": NodeNames("depth_conv.se.fc.reduce"),
    "se.expand": NodeNames("depth_conv.se.fc.expand"),
    "project": _elastic("point_linear"),
}
_POOL: tuple[str, dict[str, NodeNames]] = ("", {})


def _mbconv_layout(space: MBConvSpace) -> Layout:
    blocks = [(f"blocks.{1 + block}.conv", _ELASTIC_MBCONV) for block in range(space.blocks)]
    mix = ("feature_mix_layer", _CONV)
    expands = space.family.head.expand is not None
    return Layout(
        [
            ("first_conv", _CONV),
            ("blocks.0.conv", _STATIC_MBCONV),
            *blocks,
            *([("final_expand_layer", _CONV), _POOL, mix] if expands else [mix, _POOL]),
            ("classifier", _CLASSIFIER),
        ],
        space.family.norm_epsilon,
    )


def _resnet_layout() -> Layout:
    elastic_conv = {"conv": NodeNames("conv.conv", "bn.bn")}
    bottleneck = {
        "reduce": _elastic("conv1"),
        "conv": _elastic("conv2"),
        "expand": _elastic("conv3"),
        "shortcut.conv": _elastic("downsample"),
    }
    return Layout(
        [
            ("input_stem.0", elastic_conv),
            ("input_stem.1", {"conv": _elastic("conv")}),
            ("input_stem.2", elastic_conv),
            _POOL,
            *((f"blocks.{block}", bottleneck) for block in range(BLOCKS)),
            _POOL,
            ("classifier.linear", _CLASSIFIER),
        ],
        norm_epsilon=1e-5,
    )
