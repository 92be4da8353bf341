"""Once-for-All's ResNet50D family: elastic width, expansion, depth and an optional stem layer.

Sizes as in the authors' reference code (mit-han-lab/once-for-all). Expansion multiplies a
stage's *output* channels; widths of neighbouring stages meet in the first block of a stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt

from lutra.ops import Bottleneck, Conv, Linear, OpConfig, Pool, Shape, make_divisible
from lutra.spaces.base import Gene, Indices, Rows, SearchSpace
from lutra.spaces.lattice import NO_OP, Lattice, LatticeBuilder
from lutra.spaces.registry import register_family, register_space
from lutra.spaces.variant import FamilyName, Variant

WIDTHS = (0.65, 0.8, 1.0)
EXPANSIONS = (0.2, 0.25, 0.35)
STAGE_CHANNELS = (256, 512, 1024, 2048)
STEM_CHANNELS = 64
STAGE_STRIDES = (1, 2, 2, 2)
BASE_DEPTHS = (2, 2, 4, 2)
EXTRA_DEPTHS = (0, 1, 2)
MAX_DEPTHS = tuple(base + max(EXTRA_DEPTHS) for base in BASE_DEPTHS)
BLOCKS = sum(MAX_DEPTHS)
BLOCK_STAGE = tuple(stage for stage, depth in enumerate(MAX_DEPTHS) for _ in range(depth))
FIRST_BLOCK = tuple(sum(MAX_DEPTHS[:stage]) for stage in range(len(MAX_DEPTHS)))
RESOLUTIONS = tuple(range(128, 257, 4))
IMAGENET = Variant()

_D, _W = BLOCKS, BLOCKS + 5
_SLOTS = 4 + BLOCKS + 2  # stem 1, residual, stem 2, max pool; blocks; pool, classifier


class ResNet50DSpace(SearchSpace):
    """Rows: [expansion of 18 blocks | stem layer | extra depths | 6 widths | resolution]."""

    def __init__(
        self, name: str = "ofa-resnet50d", width: float = 1.0, variant: Variant = IMAGENET
    ) -> None:
        self.name = name
        self.variant = variant
        self.resolutions = variant.resolutions(RESOLUTIONS)
        self.stage_widths = [_widths(channels * width) for channels in STAGE_CHANNELS]
        self.stem_out = _widths(STEM_CHANNELS * width)
        self.stem_mid = tuple(make_divisible(out // 2) for out in self.stem_out)
        # Where choices round to the same channels, the later one is the first again: for the six
        # width genes, and for a stage's expansions at each of its widths.
        self._canonical_widths = [
            _firsts(widths) for widths in (self.stem_mid, self.stem_out, *self.stage_widths)
        ]
        self._canonical_expansions = [
            [_firsts([_middle(out, e) for e in range(len(EXPANSIONS))]) for out in widths]
            for widths in self.stage_widths
        ]

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        stem_depth = Gene("d", (min(EXTRA_DEPTHS), max(EXTRA_DEPTHS)))
        return (
            *[Gene("e", EXPANSIONS)] * BLOCKS,
            stem_depth,
            *[Gene("d", EXTRA_DEPTHS)] * len(BASE_DEPTHS),
            *[Gene("w", tuple(range(len(WIDTHS))))] * 6,
            Gene("r", self.resolutions),
        )

    @cached_property
    def ops(self) -> tuple[OpConfig, ...]:
        return self._catalogue[0]

    @cached_property
    def _catalogue(self) -> tuple[tuple[OpConfig, ...], Indices]:
        """The ops, and their indices by [resolution, slot, width in, width out, expansion]."""
        index_of: dict[OpConfig, int] = {}
        options = len(WIDTHS), len(WIDTHS), len(EXPANSIONS)
        indices = np.full((len(self.resolutions), _SLOTS, *options), -1, dtype=np.int32)
        for r, resolution in enumerate(self.resolutions):
            for slot, w_in, w_out, e in product(range(_SLOTS), *map(range, options)):
                op = self._op(resolution, slot, w_in, w_out, e)
                indices[r, slot, w_in, w_out, e] = index_of.setdefault(op, len(index_of))
        return tuple(index_of), indices

    def op_indices(self, rows: Rows) -> Indices:
        w_in, w_out, expansion = self._slot_choices(rows)
        slots = np.arange(_SLOTS)
        indices = self._catalogue[1][rows[:, -1:], slots, w_in, w_out, expansion]
        return np.where(self._active(rows), indices, -1).astype(np.int32)

    @staticmethod
    def _slot_choices(rows: Rows) -> tuple[Rows, Rows, Rows]:
        """(N, slots) each: the width coming in, the width going out, the expansion."""
        widths = rows[:, _W : _W + 6]
        coming, going = [0, 0, 0, 1], [0, 0, 1, 1]
        for block, stage in enumerate(BLOCK_STAGE):
            coming.append(stage + 1 if block in FIRST_BLOCK else stage + 2)
            going.append(stage + 2)
        coming += [5, 5]
        going += [5, 5]
        expansion = np.zeros((len(rows), _SLOTS), dtype=np.int16)
        expansion[:, 4 : 4 + BLOCKS] = rows[:, :BLOCKS]
        return widths[:, coming], widths[:, going], expansion

    @staticmethod
    def _active(rows: Rows) -> npt.NDArray[np.bool_]:
        """(N, slots): which slots each architecture uses."""
        active = np.ones((len(rows), _SLOTS), dtype=bool)
        active[:, 1] = rows[:, _D] == 1
        for block, stage in enumerate(BLOCK_STAGE):
            depth = BASE_DEPTHS[stage] + rows[:, _D + 1 + stage]
            active[:, 4 + block] = block - FIRST_BLOCK[stage] < depth
        return active

    def canonical(self, rows: Rows) -> Rows:
        result = rows.copy()
        result[:, :BLOCKS][~self._active(rows)[:, 4 : 4 + BLOCKS]] = 0
        for gene, firsts in enumerate(self._canonical_widths):
            result[:, _W + gene] = np.array(firsts, dtype=np.int16)[rows[:, _W + gene]]
        for block, stage in enumerate(BLOCK_STAGE):
            firsts_at = np.array(self._canonical_expansions[stage], dtype=np.int16)
            result[:, block] = firsts_at[result[:, _W + 2 + stage], result[:, block]]
        return result

    def build_lattice(self, resolution: int) -> Lattice:
        r = self.resolutions.index(resolution)
        indices = self._catalogue[1][r]
        builder = LatticeBuilder(len(self.genes), ((len(self.genes) - 1, r),))
        ends = self._append_stem(builder, indices)
        for stage in range(len(MAX_DEPTHS)):
            ends = self._append_stage(builder, ends, stage, indices)
        pooled = {width: builder.node() for width in ends}
        last = builder.node()
        for width, end in ends.items():
            builder.edge(end, pooled[width], int(indices[-2, width, width, 0]))
            builder.edge(pooled[width], last, int(indices[-1, width, width, 0]))
        return builder.build(last)

    def _append_stem(self, builder: LatticeBuilder, indices: Indices) -> dict[int, int]:
        """Add the stem; return the node reached with each of its output widths."""
        middles = sorted(set(self._canonical_widths[0]))
        firsts = {mid: builder.node() for mid in middles}
        seconds = {mid: builder.node() for mid in middles}
        outs = {out: builder.node() for out in sorted(set(self._canonical_widths[1]))}
        ends = {out: builder.node() for out in outs}
        for mid in middles:
            builder.edge(0, firsts[mid], int(indices[0, mid, mid, 0]), ((_W, mid),))
            builder.edge(firsts[mid], seconds[mid], NO_OP, ((_D, 0),))
            builder.edge(firsts[mid], seconds[mid], int(indices[1, mid, mid, 0]), ((_D, 1),))
            for out in outs:
                op = int(indices[2, mid, out, 0])
                builder.edge(seconds[mid], outs[out], op, ((_W + 1, out),))
        for out in outs:
            builder.edge(outs[out], ends[out], int(indices[3, out, out, 0]))
        return ends

    def _append_stage(
        self, builder: LatticeBuilder, starts: dict[int, int], stage: int, indices: Indices
    ) -> dict[int, int]:
        """Add one stage behind each incoming width; return the nodes of the outgoing ones."""
        widths = sorted(set(self._canonical_widths[2 + stage]))
        nodes = {
            (width, depth): builder.node()
            for depth in range(1, MAX_DEPTHS[stage] + 1)
            for width in widths
        }
        exits = {width: builder.node() for width in widths}
        for width in exits:
            expansions = sorted(set(self._canonical_expansions[stage][width]))
            for depth in range(1, MAX_DEPTHS[stage] + 1):
                block = FIRST_BLOCK[stage] + depth - 1
                sources = starts if depth == 1 else {width: nodes[width, depth - 1]}
                width_gene = ((_W + 2 + stage, width),) if depth == 1 else ()
                for (coming, source), e in product(sources.items(), expansions):
                    op = int(indices[4 + block, coming, width, e])
                    builder.edge(source, nodes[width, depth], op, ((block, e), *width_gene))
                if depth >= BASE_DEPTHS[stage]:
                    choice = depth - BASE_DEPTHS[stage]
                    builder.edge(
                        nodes[width, depth], exits[width], NO_OP, ((_D + 1 + stage, choice),)
                    )
        return exits

    def _op(self, resolution: int, slot: int, w_in: int, w_out: int, e: int) -> OpConfig:
        """The op at a slot for incoming and outgoing width choices and an expansion choice."""
        image = Shape(resolution, resolution, self.variant.channels)
        half = image.strided(self.variant.stem, self.stem_mid[w_in])
        match slot:
            case 0:
                return Conv(
                    image,
                    self.stem_mid[w_out],
                    kernel=3,
                    stride=self.variant.stem,
                    activation="relu",
                )
            case 1:
                same = half._replace(channels=self.stem_mid[w_out])
                return Conv(same, self.stem_mid[w_out], kernel=3, activation="relu", residual=True)
            case 2:
                return Conv(half, self.stem_out[w_out], kernel=3, activation="relu")
            case 3:
                return Pool(half._replace(channels=self.stem_out[w_out]), "max", kernel=3, stride=2)
        features = half.strided(2, self.stem_out[w_in])
        for stage, stride in enumerate(STAGE_STRIDES):
            channels = self.stage_widths[stage]
            block = slot - 4 - FIRST_BLOCK[stage]
            if block == 0:
                return _bottleneck(features, channels[w_out], e, stride, first=True)
            features = features.strided(stride, channels[w_in])
            if 0 < block < MAX_DEPTHS[stage]:
                return _bottleneck(features, channels[w_out], e, 1, first=False)
        if slot == _SLOTS - 2:
            return Pool(features, "global")
        return Linear(Shape(1, 1, features.channels), self.variant.classes)


def _bottleneck(features: Shape, out: int, e: int, stride: int, *, first: bool) -> OpConfig:
    if not first:
        features = features._replace(channels=out)
    return Bottleneck(features, out, _middle(out, e), 3, stride, "relu", downsample=first)


def _middle(out: int, e: int) -> int:
    """A block's middle channels for its output channels and an expansion choice."""
    return make_divisible(round(out * EXPANSIONS[e]))


def _firsts(channels: Sequence[int]) -> tuple[int, ...]:
    """For each choice the first one that means as many channels."""
    return tuple(map(channels.index, channels))


def _widths(channels: float) -> tuple[int, ...]:
    """A layer's channels at each of the widths."""
    return tuple(make_divisible(channels * width) for width in WIDTHS)


def _member(name: FamilyName) -> ResNet50DSpace:
    return ResNet50DSpace(str(name), name.width, name.variant)


register_space("ofa-resnet50d", ResNet50DSpace)
register_family("ofa-resnet50d", _member)
