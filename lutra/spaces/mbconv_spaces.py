"""Once-for-All's two families of MBConv blocks: MobileNetV3 and ProxylessNAS.

Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient Deployment"
(ICLR 2020); sizes as in the authors' reference code. A network is a first convolution, a first
block, stages of elastic blocks (kernel 3/5/7, expansion 3/4/6, depth 2/3/4: the first ``d``
blocks of a stage are used) and a head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product

import numpy as np
import numpy.typing as npt

from lutra.ops import Conv, Linear, MBConv, OpConfig, Pool, Shape, make_divisible
from lutra.ops.graph import Activation
from lutra.spaces.base import Gene, Indices, Rows, SearchSpace
from lutra.spaces.lattice import NO_OP, Lattice, LatticeBuilder
from lutra.spaces.registry import register_family, register_space
from lutra.spaces.variant import FamilyName, Variant

KERNELS = (3, 5, 7)
EXPANSIONS = (3, 4, 6)
DEPTHS = (2, 3, 4)
RESOLUTIONS = tuple(range(128, 225, 4))
IMAGENET = Variant()
FASHION = "ofa-mbv3-fashion"


@dataclass(frozen=True)
class Stage:
    """Blocks of equal width: output channels, stride of the first block, block counts."""

    channels: int
    stride: int
    activation: Activation
    se: bool
    depths: tuple[int, ...] = DEPTHS

    @property
    def blocks(self) -> int:
        return max(self.depths)


@dataclass(frozen=True)
class Head:
    """What follows the stages, as ops, from the last feature map to the classes."""

    expand: int | None
    mix: int
    activation: Activation

    def ops(self, features: Shape, classes: int) -> list[OpConfig]:
        if self.expand is None:  # ProxylessNAS: mix, pool, classify
            mix = Conv(features, self.mix, activation=self.activation)
            return [mix, Pool(mix.output_shape, "global"), Linear(Shape(1, 1, self.mix), classes)]
        expand = Conv(features, self.expand, activation=self.activation)
        pool = Pool(expand.output_shape, "global")
        mix = Conv(pool.output_shape, self.mix, activation=self.activation, bias="none")
        return [expand, pool, mix, Linear(mix.output_shape, classes)]


@dataclass(frozen=True)
class Family:
    """The fixed numbers of one network family at one width."""

    first_channels: int
    first_activation: Activation
    block0_channels: int
    block0_activation: Activation
    block0_residual: bool
    stages: tuple[Stage, ...]
    head: Head
    norm_epsilon: float = 1e-5


class MBConvSpace(SearchSpace):
    """Rows: [kernel of each block | expansion of each block | depth of each stage | resolution]."""

    def __init__(self, name: str, family: Family, variant: Variant = IMAGENET) -> None:
        self.name = name
        self.family = family
        self.variant = variant
        self.resolutions = variant.resolutions(RESOLUTIONS)

    @cached_property
    def blocks(self) -> int:
        """Elastic blocks at full depth."""
        return sum(stage.blocks for stage in self.family.stages)

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        kernels = [Gene("ks", KERNELS)] * self.blocks
        expansions = [Gene("e", EXPANSIONS)] * self.blocks
        depths = [Gene("d", stage.depths) for stage in self.family.stages]
        return (*kernels, *expansions, *depths, Gene("r", self.resolutions))

    @cached_property
    def ops(self) -> tuple[OpConfig, ...]:
        return self._catalogue[0]

    @cached_property
    def _catalogue(self) -> tuple[tuple[OpConfig, ...], Indices]:
        """The ops, and their indices by [resolution, slot, kernel choice, expansion choice]."""
        index_of: dict[OpConfig, int] = {}
        head = len(self.family.head.ops(Shape(4, 4, 8), self.variant.classes))
        shape = (len(self.resolutions), 2 + self.blocks + head, len(KERNELS), len(EXPANSIONS))
        indices = np.full(shape, -1, dtype=np.int32)
        for r, resolution in enumerate(self.resolutions):
            for slot, options in enumerate(self._slots(resolution)):
                for (k, e), op in options.items():
                    indices[r, slot, k, e] = index_of.setdefault(op, len(index_of))
        return tuple(index_of), indices

    def _slots(self, resolution: int) -> list[dict[tuple[int, int], OpConfig]]:
        """Each position of the full-depth network with its ops by (kernel, expansion) choice."""
        family = self.family
        image = Shape(resolution, resolution, self.variant.channels)
        first = Conv(
            image,
            family.first_channels,
            kernel=3,
            stride=self.variant.stem,
            activation=family.first_activation,
        )
        block0 = MBConv(
            first.output_shape,
            family.block0_channels,
            mid_channels=family.first_channels,
            kernel=3,
            stride=1,
            activation=family.block0_activation,
            se=False,
            residual=family.block0_residual,
        )
        slots = [_static(first), _static(block0)]
        features = block0.output_shape
        for stage in family.stages:
            for block in range(stage.blocks):
                slots.append(_block_options(features, stage, first=block == 0))
                features = slots[-1][0, 0].output_shape
        return slots + [_static(op) for op in family.head.ops(features, self.variant.classes)]

    def op_indices(self, rows: Rows) -> Indices:
        fixed, elastic, places = self._flat_catalogue
        # Into one long array: a look-up with four indices takes several times as long.
        places = places.take(rows[:, -1], axis=0)
        places += rows[:, : self.blocks] * np.int32(len(EXPANSIONS))
        places += rows[:, self.blocks : 2 * self.blocks]
        result = fixed.take(rows[:, -1], axis=0)
        blocks = elastic.take(places)  # one above the index: 0 where a block is not used
        blocks *= self._active(rows)
        blocks -= 1
        result[:, 2 : 2 + self.blocks] = blocks
        return result

    @cached_property
    def _flat_catalogue(self) -> tuple[Indices, Indices, Indices]:
        """The ops by [resolution, slot]; all options in a line, counted from 1; where they begin.

        The last by [resolution, block].
        """
        indices = self._catalogue[1]
        each = len(KERNELS) * len(EXPANSIONS)
        begins = np.arange(indices.size // each, dtype=np.int32).reshape(indices.shape[:2]) * each
        blocks = np.ascontiguousarray(begins[:, 2 : 2 + self.blocks], dtype=np.int32)
        return np.ascontiguousarray(indices[:, :, 0, 0]), indices.ravel() + 1, blocks

    @cached_property
    def _depth_masks(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Which blocks are used, (all depths, blocks), and how far apart each stage's choices are.

        In the order of the result: (stages,) steps, then the masks.
        """
        counts = [len(stage.depths) for stage in self.family.stages]
        used = [
            np.concatenate(
                [np.arange(stage.blocks) < stage.depths[choice] for stage, choice in stages]
            )
            for stages in (
                list(zip(self.family.stages, choices, strict=True))
                for choices in np.ndindex(*counts)
            )
        ]
        apart = np.cumprod([1, *counts[:0:-1]])[::-1]
        return apart, np.array(used)

    def _active(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """(N, blocks): which elastic blocks each architecture uses."""
        apart, used = self._depth_masks
        active: npt.NDArray[np.bool_] = used[rows[:, 2 * self.blocks : -1] @ apart]
        return active

    def canonical(self, rows: Rows) -> Rows:
        result = rows.copy()
        inert = ~self._active(rows)
        result[:, : self.blocks][inert] = 0
        result[:, self.blocks : 2 * self.blocks][inert] = 0
        return result

    def build_lattice(self, resolution: int) -> Lattice:
        r = self.resolutions.index(resolution)
        indices = self._catalogue[1][r]
        builder = LatticeBuilder(len(self.genes), ((len(self.genes) - 1, r),))
        current = 0
        for slot in (0, 1):
            current = _append(builder, current, int(indices[slot, 0, 0]))
        block = 0
        for number, stage in enumerate(self.family.stages):
            current = self._append_stage(builder, current, number, stage, block, indices)
            block += stage.blocks
        for slot in range(2 + self.blocks, indices.shape[0]):
            current = _append(builder, current, int(indices[slot, 0, 0]))
        return builder.build(current)

    def _append_stage(
        self,
        builder: LatticeBuilder,
        current: int,
        number: int,
        stage: Stage,
        first_block: int,
        indices: Indices,
    ) -> int:
        """Add a stage's blocks, with an exit after each depth it may have; return the exit."""
        ends = {}
        for depth in range(1, stage.blocks + 1):
            block = first_block + depth - 1
            following = builder.node()
            for k, e in product(range(len(KERNELS)), range(len(EXPANSIONS))):
                genes = ((block, k), (self.blocks + block, e))
                builder.edge(current, following, int(indices[2 + block, k, e]), genes)
            ends[depth] = current = following
        exit_node = builder.node()
        column = 2 * self.blocks + number
        for choice, depth in enumerate(stage.depths):
            builder.edge(ends[depth], exit_node, NO_OP, ((column, choice),))
        return exit_node


def _static(op: OpConfig) -> dict[tuple[int, int], OpConfig]:
    return {(0, 0): op}


def _append(builder: LatticeBuilder, current: int, op: int) -> int:
    following = builder.node()
    builder.edge(current, following, op)
    return following


def _block_options(
    features: Shape, stage: Stage, *, first: bool
) -> dict[tuple[int, int], OpConfig]:
    return {
        (k, e): MBConv(
            features,
            stage.channels,
            mid_channels=make_divisible(round(features.channels * expansion)),
            kernel=kernel,
            stride=stage.stride if first else 1,
            activation=stage.activation,
            se=stage.se,
            residual=not first,
        )
        for (k, kernel), (e, expansion) in product(enumerate(KERNELS), enumerate(EXPANSIONS))
    }


def mobilenet_v3(width: float) -> Family:
    """OFA-MobileNetV3; published at width 1.0 and 1.2."""
    first, stage0, *stages, expand, mix = (
        make_divisible(c * width) for c in (16, 16, 24, 40, 80, 112, 160, 960, 1280)
    )
    strides = (2, 2, 2, 1, 2)
    activations: tuple[Activation, ...] = ("relu", "relu", "h_swish", "h_swish", "h_swish")
    excitations = (False, True, False, True, True)
    return Family(
        first_channels=first,
        first_activation="h_swish",
        block0_channels=stage0,
        block0_activation="relu",
        block0_residual=True,
        stages=tuple(map(Stage, stages, strides, activations, excitations)),
        head=Head(expand, mix, "h_swish"),
    )


def proxyless(width: float) -> Family:
    """OFA-ProxylessNAS; published at width 1.3."""
    first, stage0, *stages, mix = (
        make_divisible(c * width) for c in (32, 16, 24, 40, 80, 96, 192, 320, 1280)
    )
    strides = (2, 2, 2, 1, 2, 1)
    depths = (DEPTHS,) * 5 + ((1,),)
    return Family(
        first_channels=first,
        first_activation="relu6",
        block0_channels=stage0,
        block0_activation="relu6",
        block0_residual=False,
        stages=tuple(
            Stage(channels, stride, "relu6", False, depth)
            for channels, stride, depth in zip(stages, strides, depths, strict=True)
        ),
        head=Head(None, mix, "relu6"),
        norm_epsilon=1e-3,
    )


def _register() -> None:
    families = {"ofa-mbv3": (mobilenet_v3, (1.0, 1.2)), "ofa-proxyless": (proxyless, (1.3, 1.0))}
    for family, (sizes, published) in families.items():
        member = partial(_member, sizes)
        register_family(family, member)
        for width in published:
            name = FamilyName(family, width, IMAGENET)
            register_space(str(name), partial(member, name))

    # Small networks for small images: the one whose supernet comes with lutra.
    variant = Variant(classes=10, channels=1, r=(20, 28, 4))
    small = partial(MBConvSpace, FASHION, mobilenet_v3(0.35), variant)
    register_space(FASHION, small)


def _member(sizes: Callable[[float], Family], name: FamilyName) -> MBConvSpace:
    return MBConvSpace(str(name), sizes(name.width), name.variant)


_register()
