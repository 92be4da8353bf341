"""The superkernel network: the largest network of a space, of which indicators leave parts out.

Stamoulis et al., "Single-Path NAS: Designing Hardware-Efficient ConvNets in less than 4 Hours"
(ECML PKDD 2019): a 3x3 kernel is the centre of a 5x5 one, few channels are the first of many, and
the outer part is used where its norm is above a threshold, which is trained as weights are.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from lutra.errors import UsageError
from lutra.ops.graph import Node
from lutra.spaces.architecture import Architecture
from lutra.spaces.base import Rows, SearchSpace
from lutra.spaces.mbconv_spaces import MBConvSpace
from lutra.spaces.registry import get_space
from lutra.supernets.elastic.supernet import Supernet, local_name
from lutra.supernets.execution import run_graph
from lutra.supernets.single_path.gates import Gates, gates_of

_FIRST_BLOCK = 2  # the slot of the first elastic one
_MEMORY = 0.99  # of the gradients' mean squares


def elastic_space(space: str | SearchSpace) -> MBConvSpace:
    """The space; raises `UsageError` for one that has no elastic MBConv blocks."""
    found = get_space(space)
    if not isinstance(found, MBConvSpace):
        raise UsageError(
            f"single-path search needs blocks of nested kernels and expansions, which"
            f" '{found.name}' has not: name a space of ofa-mbv3 or ofa-proxyless"
        )
    return found


# docs/decisions.md: Weights are masked, not feature maps
class SuperkernelNetwork(nn.Module):
    """``network(images)`` gives (N, classes), with the weights of the largest network.

    It computes what the subnet of `architecture` does, in the memory that the largest takes: what
    is not used is multiplied by 0 where its channels are read, so that it has gradients, too.
    ``supernet`` holds the weights. Its matrices between kernel sizes are not trained: those of a
    fresh one make a smaller kernel the plain centre of a larger. All parts are used at first.

    Raises `UsageError` for a space without elastic MBConv blocks.
    """

    def __init__(self, supernet: Supernet) -> None:
        super().__init__()
        self.space = elastic_space(supernet.space)
        self.supernet = supernet
        self._layers = {(slot, name): layer for slot, name, layer in supernet.layers()}
        self._ops = supernet.slots(supernet.largest())
        self._blocks = range(self.space.blocks)
        genes = self.space.genes
        self._choices = [len(genes[gene].choices) for gene in (0, self.space.blocks)]
        self._widths = [self._widths_of(block) for block in self._blocks]
        for layer in self._layers.values():
            if layer.transforms is not None:
                layer.transforms.requires_grad_(False)
        self._norms_before: Tensor
        self.register_buffer("_norms_before", self._norms().detach().clamp_min(1e-12))
        self.thresholds = nn.Parameter(torch.zeros_like(self._norms_before))
        self._mean_squares: Tensor
        self.register_buffer("_mean_squares", torch.zeros_like(self._norms_before))
        self.threshold_speed = 1.0  # of their gradients, once they are evened
        self._backward_passes = 0
        self.thresholds.register_hook(self._evened)  # type: ignore[no-untyped-call]

    def _widths_of(self, block: int) -> dict[str, list[int]]:
        """By the names of nodes that read inner channels: how many each expansion gives them."""
        blocks = self.space.blocks
        rows = np.zeros((self._choices[1], len(self.space.genes)), dtype=np.int16)
        rows[:, 2 * blocks : -1] = self.space.choice_counts[2 * blocks : -1] - 1
        rows[:, blocks + block] = np.arange(self._choices[1])
        widths: dict[str, list[int]] = {}
        for op in self.space.op_indices(rows)[:, _FIRST_BLOCK + block]:
            graph = self.space.ops[op].graph
            for node in graph.nodes:
                if (name := local_name(node)) in ("project", "se.reduce", "se.expand"):
                    widths.setdefault(name, []).append(graph.weight_shape(node)[1])
        return widths

    def _evened(self, gradients: Tensor) -> Tensor:
        """A threshold's gradient in units of its own usual size, as RMSProp has it.

        What a block takes and gives is tens of times what a kernel's border does: otherwise blocks
        would be left out long before it is known what borders are worth.
        """
        self._backward_passes += 1
        self._mean_squares.lerp_(gradients.square(), 1.0 - _MEMORY)
        seen = 1.0 - _MEMORY**self._backward_passes  # it began at 0
        usual = (self._mean_squares / seen).sqrt()
        return self.threshold_speed * gradients / torch.where(usual > 0, usual, 1.0)

    # which parts are used

    def logits(self) -> Tensor:
        """(indicators,): above 0 where a part is used: its norm, in units of the first, less a

        threshold. Those of a gene's choices after the first, gene after gene as in the space.
        """
        return self._norms() / self._norms_before - self.thresholds

    def _norms(self) -> Tensor:
        """(indicators,): the squared norms of the parts that may be left out."""
        blocks = self._blocks
        parts = [part for block in blocks for part in self._kernel_parts(block)[1:]]
        parts += [part for block in blocks for part in self._inner_parts(block)[1:]]
        # A block is judged by what its always used channels write.
        parts += [self._inner_parts(block)[0] for block in self._optional_blocks()]
        return torch.stack([part.square().sum() for part in parts])

    def _kernel_parts(self, block: int) -> list[Tensor]:
        """What each kernel size adds to the next smaller one, as (C, 1, K, K) of the largest."""
        layer = self._layers[_FIRST_BLOCK + block, "depthwise"]
        channels, _, largest, _ = layer.layer.weight.shape
        padded = []
        for size in self.space.genes[block].choices:
            weight = layer.weight((channels, 1, int(size), int(size)))
            padded.append(functional.pad(weight, [(largest - int(size)) // 2] * 4))
        return [padded[0], *(outer - inner for inner, outer in pairwise(padded))]

    def _inner_parts(self, block: int) -> list[Tensor]:
        """What the projection reads of the channels that each expansion adds."""
        weight = self._layers[_FIRST_BLOCK + block, "project"].layer.weight
        widths = [0, *self._widths[block]["project"]]
        return [weight[:, start:end] for start, end in pairwise(widths)]

    def _optional_blocks(self) -> Iterator[int]:
        """The blocks that a smaller depth leaves out."""
        first = 0
        for stage in self.space.family.stages:
            yield from range(first + min(stage.depths), first + stage.blocks)
            first += stage.blocks

    def gates(self) -> Gates:
        """The gates of the weights and thresholds as they are; they have gradients."""
        logits, count = self.logits(), self.space.blocks
        kernels, expansions = (count * (choices - 1) for choices in self._choices)
        parts = torch.split(logits, [kernels, expansions, len(logits) - kernels - expansions])
        return Gates(
            gates_of(parts[0].reshape(count, -1)),
            gates_of(parts[1].reshape(count, -1)),
            self._used(parts[2]),
        )

    def _used(self, logits: Tensor) -> Tensor:
        """(blocks,): blocks of a stage beyond its least depth are used up to the first that is not.

        ``logits`` (optional blocks,) are theirs, stage after stage.
        """
        used, done = [], 0
        for stage in self.space.family.stages:
            least = min(stage.depths)
            optional = stage.blocks - least
            gates = gates_of(logits[None, done : done + optional])[0]  # (1 + optional,)
            used += [gates[:1]] * least + [gates[1:]]
            done += optional
        return torch.cat(used)

    @torch.no_grad()
    def row(self) -> Rows:
        """(genes,): the choices that are made, at the lowest resolution; inert genes as they are.

        That is, of blocks that are not used what they would be.
        """
        gates = self.gates()
        stages = self.space.family.stages
        depths = torch.split(gates.used, [stage.blocks for stage in stages])
        extra = [used.sum() - min(stage.depths) for used, stage in zip(depths, stages, strict=True)]
        choices = [gates.kernels.sum(1) - 1, gates.expansions.sum(1) - 1, torch.stack(extra)]
        row = torch.cat(choices).round().cpu().numpy()
        return np.append(row, 0).astype(np.int16)

    def architecture(self, resolution: int) -> Architecture:
        """The choices that are made, at a resolution in pixels; raises `UsageError` for another."""
        row = self.row()
        row[-1] = self.space.resolution_indices([resolution])[0]
        return self.space.decode(row)

    @torch.no_grad()
    def logits_by_gene(self) -> list[npt.NDArray[np.float64]]:
        """The logits of each gene's choices after the first; the resolution has none."""
        sizes = [int(count) - 1 for count in self.space.choice_counts[:-1]]
        return [part.double().cpu().numpy() for part in torch.split(self.logits(), sizes)]

    @torch.no_grad()
    def choose(self, row: Rows) -> None:
        """Set all thresholds so that the choices of a row (genes,) are made."""
        counts = self.space.choice_counts[:-1]
        used = np.concatenate(
            [np.arange(1, count) <= choice for count, choice in zip(counts, row, strict=False)]
        )
        wanted = torch.from_numpy(np.where(used, 0.5, -0.5)).to(self.thresholds)
        norms = self._norms() / self._norms_before
        self.thresholds.copy_(norms - wanted)

    # what it computes

    def forward(self, images: Tensor, gates: Gates | None = None) -> Tensor:
        """``gates`` are those of `gates`, where they were computed already."""
        gates = gates or self.gates()
        features = images
        for slot, op in self._ops:
            block = slot - _FIRST_BLOCK
            if block in self._blocks:
                weighted = partial(self._gated, block, gates)
            else:
                weighted = partial(self._plain, slot)
            features = run_graph(op.graph, features, weighted)
        return features

    def _plain(self, slot: int, node: Node, features: Tensor) -> Tensor:
        layer = self._layers[slot, local_name(node)]
        return layer.run_with(layer.layer.weight, node, features)

    def _gated(self, block: int, gates: Gates, node: Node, features: Tensor) -> Tensor:
        """A node of an elastic block. Weights are masked, never feature maps: they are smaller."""
        name = local_name(node)
        layer = self._layers[_FIRST_BLOCK + block, name]
        weight: Tensor = layer.layer.weight
        if name == "depthwise":
            parts = self._kernel_parts(block)
            weight = torch.stack(
                [gate * part for gate, part in zip(gates.kernels[block], parts, strict=True)]
            ).sum(0)
        elif name in self._widths[block]:
            weight = weight * self._mask(gates.expansions[block], self._widths[block][name])
        # Behind a projection there is no activation: 0 times it is a block that adds nothing.
        scale = gates.used[block] if name == "project" else None
        return layer.run_with(weight, node, features, scale)

    def _mask(self, gates: Tensor, widths: list[int]) -> Tensor:
        """(1, channels, 1, 1): the gate of the narrowest choice that has a channel."""
        added = torch.tensor(np.diff(widths, prepend=0), device=gates.device)
        return gates.repeat_interleave(added)[None, :, None, None]
