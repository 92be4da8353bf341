"""What a network learns from others: their probabilities, and how their stages flow.

Soft labels are Hinton, Vinyals and Dean's ("Distilling the Knowledge in a Neural Network", 2015),
FSP matrices ("flow of solution procedure") Yim, Joo, Bae and Kim's ("A Gift from Knowledge
Distillation", CVPR 2017).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lutra.errors import UsageError
from lutra.ops import Graph
from lutra.supernets.subnet import Subnet
from lutra.supernets.training.losses import label_cross_entropy

TEMPERATURE = 4.0
SOFT_WEIGHT = 0.5
FSP_WEIGHT = 1.0
_FEWEST_BORDERS = 2  # of a stage
_LEAST_SQUARE = 1e-12  # of a teacher's matrix: one of zeros has no unit


class Border(NamedTuple):
    """The feature map with which a stage ends: its name, its channels, pixels to one of it."""

    name: str
    channels: int
    stride: int


class Distillation:
    """A `Loss` for `fine_tune`: of a network of ``graph``, from ``teachers`` by name.

    ``(1 - soft_weight)`` times the smoothed cross-entropy with the labels, ``soft_weight`` times
    ``temperature`` squared times the divergence (Kullback and Leibler's) from the mean of the
    teachers' probabilities at that temperature, and ``fsp_weight`` times `fsp_loss`.

    Teachers are given the network's images; they are to be in inference mode, with statistics of
    such images. For FSP the network must take an observer, as `Subnet` does. Raises `UsageError`
    for numbers out of range, teachers of other classes or channels of images, and with
    ``fsp_weight`` for those whose stages differ in number or in channels.
    """

    def __init__(
        self,
        graph: Graph,
        teachers: Mapping[str, Subnet],
        *,
        temperature: float = TEMPERATURE,
        soft_weight: float = SOFT_WEIGHT,
        fsp_weight: float = 0.0,
    ) -> None:
        _require_sane(teachers, temperature, soft_weight, fsp_weight)
        for name, teacher in teachers.items():
            _require_same_task(graph, teacher.graph, name)
        self.temperature, self.soft_weight, self.fsp_weight = temperature, soft_weight, fsp_weight
        self._teachers = list(teachers.values())
        self._borders: list[list[str]] = [[] for _ in teachers]
        self._own_borders: list[str] = []
        if fsp_weight:
            own = stage_borders(graph)
            if len(own) < _FEWEST_BORDERS:
                raise UsageError("FSP compares stages, and the network has none")
            self._own_borders = [border.name for border in own]
            self._borders = [
                _borders_like(own, stage_borders(teacher.graph), name)
                for name, teacher in teachers.items()
            ]

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        logits, maps = _run(network, images, self._own_borders)
        with torch.no_grad():
            taught = [
                _run(teacher.to(images.device), images, borders)
                for teacher, borders in zip(self._teachers, self._borders, strict=True)
            ]
        loss = (1.0 - self.soft_weight) * label_cross_entropy(logits, labels)
        if self.soft_weight:
            given = [teacher_logits for teacher_logits, _ in taught]
            loss = loss + self.soft_weight * soft_label_loss(logits, given, self.temperature)
        if self.fsp_weight:
            loss = loss + self.fsp_weight * fsp_loss(maps, [seen for _, seen in taught])
        return loss


def soft_label_loss(logits: Tensor, teachers: Sequence[Tensor], temperature: float) -> Tensor:
    """The divergence from the mean of teachers' probabilities, all from logits (N, classes).

    Times the temperature squared, so that gradients are as large as labels' at any of them.
    """
    soft = torch.stack([(each / temperature).softmax(1) for each in teachers]).mean(0)
    own = (logits / temperature).log_softmax(1)
    return temperature**2 * functional.kl_div(own, soft, reduction="batchmean")


def fsp_loss(maps: Sequence[Tensor], teachers: Sequence[Sequence[Tensor]]) -> Tensor:
    """How far FSP matrices are from the mean of teachers': squared error, averaged over stages.

    In units of the teachers' mean square at each stage; the paper leaves the stages' weights open.
    ``maps`` (N, C, H, W) are those at the stages' borders, in order; as many for each teacher.
    """
    # docs/decisions.md: FSP in units of the teacher's matrices
    own, *theirs = (_fsp_matrices(each) for each in (maps, *teachers))
    wanted = [torch.stack(each).mean(0) for each in zip(*theirs, strict=True)]
    errors = [
        functional.mse_loss(matrix, goal) / goal.square().mean().clamp_min(_LEAST_SQUARE)
        for matrix, goal in zip(own, wanted, strict=True)
    ]
    return torch.stack(errors).mean()


def fsp_matrix(begin: Tensor, end: Tensor) -> Tensor:
    """(N, C, D): what the channels of (N, C, H, W) and (N, D, h, w) have in common, by place.

    Where the first has more places, each of the second's gets the largest value of its own.
    """
    begin = functional.adaptive_max_pool2d(begin, end.shape[-2:])
    places = end.shape[-2] * end.shape[-1]
    return begin.flatten(2) @ end.flatten(2).transpose(1, 2) / places


def stage_borders(graph: Graph) -> list[Border]:
    """Where a network's feature maps become smaller or change in channels, up to its classifier.

    Each is the last of its size that an op gives. A stage lies between two that follow each other.
    """
    strides = {graph.input: 1}
    borders: list[Border] = []
    for _, group in groupby(graph.nodes, lambda node: node.name.partition(".")[0]):
        for node in group:
            strides[node.name] = strides[node.inputs[0]] * node.stride
        if node.op in ("global_pool", "linear"):
            break
        end = Border(node.name, graph.shapes[node.name].channels, strides[node.name])
        if borders and borders[-1][1:] == end[1:]:
            borders.pop()
        borders.append(end)
    return borders


def _borders_like(own: Sequence[Border], theirs: Sequence[Border], teacher: str) -> list[str]:
    """The names of a teacher's borders; raises `UsageError` where they are not the network's."""
    if len(own) != len(theirs):
        raise UsageError(
            f"FSP compares stage by stage, and {teacher} has {len(theirs) - 1} stages, the network"
            f" {len(own) - 1}: distil its soft labels alone"
        )
    for mine, its in zip(own, theirs, strict=True):
        if mine.channels != its.channels:
            raise UsageError(
                f"FSP needs equal channels between stages, and {teacher} has {its.channels} after"
                f" {its.name}, the network {mine.channels} after {mine.name}: distil its soft"
                " labels alone"
            )
    return [border.name for border in theirs]


def _fsp_matrices(maps: Sequence[Tensor]) -> list[Tensor]:
    """One for each stage."""
    return [fsp_matrix(begin, end) for begin, end in pairwise(maps)]


def _run(network: nn.Module, images: Tensor, names: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
    """Logits (N, classes), and the feature maps of these names."""
    if not names:
        return network(images), []
    maps: dict[str, Tensor] = {}

    def observe(name: str, features: Tensor) -> None:
        if name in names:
            maps[name] = features

    logits: Tensor = network(images, observe)
    return logits, [maps[name] for name in names]


def _require_sane(
    teachers: Mapping[str, Subnet], temperature: float, soft_weight: float, fsp_weight: float
) -> None:
    if not teachers:
        raise UsageError("there is no teacher to distil from: name one")
    if not (math.isfinite(temperature) and temperature > 0):
        raise UsageError(f"a temperature of {temperature:g} must be above zero and finite")
    if not 0 <= soft_weight <= 1:
        raise UsageError(f"a weight of soft labels of {soft_weight:g} must lie in 0..1")
    if not (math.isfinite(fsp_weight) and fsp_weight >= 0):
        raise UsageError(f"a weight of FSP of {fsp_weight:g} must be finite and not negative")
    if not (soft_weight or fsp_weight):
        raise UsageError("without soft labels and FSP a teacher has no use: weigh one of them")


def _require_same_task(graph: Graph, theirs: Graph, teacher: str) -> None:
    own = (graph.input_shape.channels, graph.output_shape.channels)
    other = (theirs.input_shape.channels, theirs.output_shape.channels)
    if own != other:
        raise UsageError(
            f"{teacher} takes images of {other[0]} channels and knows {other[1]} classes; the"
            f" network's are {own[0]} and {own[1]}: another teacher is needed"
        )
