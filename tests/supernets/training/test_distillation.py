"""What a network learns from teachers: soft labels and FSP matrices against their formulas."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lutra.errors import UsageError
from lutra.ops import Conv, Linear, Shape, chain_graph
from lutra.spaces import Architecture, get_space
from lutra.spaces.widths import WidthSpace
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.subnet import Subnet, initialise
from lutra.supernets.training.distillation import (
    Distillation,
    fsp_loss,
    fsp_matrix,
    soft_label_loss,
    stage_borders,
)
from lutra.supernets.training.losses import label_cross_entropy
from tests.supernets.test_supernet import MBV3, PROXYLESS, RESNET, disturbed


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    supernet = Supernet(MBV3)
    disturbed(supernet)
    return supernet.eval()


def batch(resolution: int = 20) -> tuple[Tensor, Tensor]:
    return torch.randn(4, 1, resolution, resolution), torch.tensor([1, 0, 9, 3])


def test_soft_labels_are_hinton_s() -> None:
    """Cross-entropy with the mean of probabilities, less its entropy, times T squared."""
    logits, one, two = torch.randn(3, 5, 7).unbind()
    for temperature in (1.0, 4.0):
        soft = ((one / temperature).softmax(1) + (two / temperature).softmax(1)) / 2
        cross = -(soft * (logits / temperature).log_softmax(1)).sum(1)
        entropy = -(soft * soft.log()).sum(1)
        expected = temperature**2 * (cross - entropy).mean()
        found = soft_label_loss(logits, [one, two], temperature)
        assert float(found) == pytest.approx(float(expected), rel=1e-4)
    assert float(soft_label_loss(logits, [logits], 3.0)) == pytest.approx(0.0, abs=1e-6)


def test_fsp_matrices_are_yim_s() -> None:
    begin, end = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)
    pooled = functional.max_pool2d(begin, 2).numpy()
    expected = np.zeros((2, 3, 5))
    for row in range(2):
        for column in range(2):
            one, other = pooled[:, :, row, column], end.numpy()[:, :, row, column]
            expected += one[:, :, None] * other[:, None, :] / 4
    assert np.allclose(fsp_matrix(begin, end).numpy(), expected, atol=1e-5)
    assert fsp_matrix(torch.randn(2, 3, 7, 7), torch.randn(2, 5, 4, 4)).shape == (2, 3, 5)


def test_the_error_of_fsp_is_relative_and_averaged_over_stages() -> None:
    own = [torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 3.0), torch.ones(1, 1, 1, 1)]
    teachers = [[torch.ones(1, 1, 1, 1)] * 3, [torch.full((1, 1, 1, 1), 3.0**0.5)] * 3]
    # matrices: own 3 and 3; the teachers' 1 and 3, so 2 on average, at both stages
    assert float(fsp_loss(own, teachers)) == pytest.approx((3 - 2) ** 2 / 2**2)
    assert float(fsp_loss(own, [own])) == 0.0
    assert math.isfinite(float(fsp_loss(own, [[torch.zeros(1, 1, 1, 1)] * 3])))


@pytest.mark.parametrize("name", [MBV3, PROXYLESS, RESNET])
def test_stages_end_where_size_or_channels_change(name: str) -> None:
    space = get_space(name)
    borders = []
    for row in (space.choice_counts * 0, space.choice_counts - 1):
        network = space.decode(row)
        graph, borders_of_one = space.graph(network), stage_borders(space.graph(network))
        pools = itertools.takewhile(
            lambda op: getattr(op, "pooling", "") != "global", space.ops_of(network)
        )
        expected = [shape for shape, _ in itertools.groupby(op.output_shape for op in pools)]
        assert [graph.shapes[border.name] for border in borders_of_one] == expected
        borders.append(borders_of_one)
    small, large = borders
    assert [border.stride for border in small] == [border.stride for border in large]


def test_borders_of_the_smallest_mobilenet() -> None:
    space = get_space("ofa-mbv3-w1.0")
    smallest = space.decode(space.choice_counts * 0)
    found = [(border.channels, border.stride) for border in stage_borders(space.graph(smallest))]
    assert found == [(16, 2), (24, 4), (40, 8), (80, 16), (112, 16), (160, 32), (960, 32)]


def test_the_loss_is_the_sum_of_its_parts(supernet: Supernet) -> None:
    subnet, teacher = supernet.subnet(supernet.smallest()), supernet.subnet()
    images, labels = batch()
    with torch.no_grad():
        logits, taught = subnet(images), teacher(images)
    label = label_cross_entropy(logits, labels)
    soft = soft_label_loss(logits, [taught], 2.0)

    def loss(soft_weight: float, fsp_weight: float) -> float:
        found = Distillation(
            subnet.graph,
            {"t": teacher},
            temperature=2.0,
            soft_weight=soft_weight,
            fsp_weight=fsp_weight,
        )
        return float(found(subnet, images, labels).detach())

    mixed = 0.7 * float(label) + 0.3 * float(soft)
    assert loss(0.3, 0.0) == pytest.approx(mixed, rel=1e-5)
    flow = loss(0.0, 1.0) - float(label)
    assert flow > 0.01
    assert loss(0.3, 2.0) == pytest.approx(mixed + 2.0 * flow, rel=1e-4)


def test_only_the_network_learns_and_comes_nearer(supernet: Supernet) -> None:
    subnet, teacher = supernet.subnet(supernet.smallest()), supernet.subnet()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    images, labels = batch()
    loss = Distillation(subnet.graph, {"t": teacher}, soft_weight=0.1, fsp_weight=10.0)
    optimizer = torch.optim.SGD(subnet.parameters(), lr=0.02)
    values = []
    for _ in range(8):
        value = loss(subnet, images, labels)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.8 * values[0]
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


def narrower(base: Architecture, gene: str) -> Subnet:
    space = WidthSpace(base)
    row = space.choice_counts - 1
    places = [place for place, each in enumerate(space.genes) if each.list_name == gene]
    row[places[2]] -= 1
    subnet = Subnet(space.graph(space.decode(row)))
    initialise(subnet, 0)
    return subnet.eval()


def test_pruned_within_blocks_stages_can_still_be_compared(supernet: Supernet) -> None:
    pruned = narrower(supernet.smallest(), "mid")
    loss = Distillation(pruned.graph, {"t": supernet.subnet()}, fsp_weight=1.0)
    assert math.isfinite(loss(pruned, *batch()).item())


def says(student: Subnet, teacher: Subnet, **asked: float) -> str:
    with pytest.raises(UsageError) as caught:
        Distillation(student.graph, {"big.pth": teacher}, **asked)
    (line,) = str(caught.value).splitlines()
    return line


def test_what_cannot_be_learned_from(supernet: Supernet) -> None:
    subnet, teacher = supernet.subnet(supernet.smallest()), supernet.subnet()
    pruned = narrower(supernet.smallest(), "out")
    line = says(pruned, teacher, fsp_weight=1.0)
    assert "FSP needs equal channels between stages, and big.pth has" in line
    Distillation(pruned.graph, {"big.pth": teacher})  # by soft labels it can
    conv = Conv(Shape(20, 20, 1), 8, kernel=3, stride=2)
    shallow = Subnet(chain_graph([conv, Linear(conv.output_shape, 10)]))
    line = says(shallow, teacher, fsp_weight=1.0)
    assert "and the network has none" in line
    line = says(subnet, shallow, fsp_weight=1.0)
    assert "big.pth has 0 stages, the network 6: distil its soft labels alone" in line
    three = Supernet("ofa-mbv3-w0.25/classes=3/stem=1/r=20:28:4").eval().subnet()
    line = says(subnet, three)
    assert (
        "big.pth takes images of 3 channels and knows 3 classes; the network's are 1 and 10" in line
    )
    assert "a temperature of 0 must" in says(subnet, teacher, temperature=0.0)
    assert "a temperature of nan must" in says(subnet, teacher, temperature=math.nan)
    assert "soft labels of 1.5 must lie in 0..1" in says(subnet, teacher, soft_weight=1.5)
    assert "soft labels of nan must lie in 0..1" in says(subnet, teacher, soft_weight=math.nan)
    assert "of FSP of -1" in says(subnet, teacher, fsp_weight=-1.0)
    assert "a teacher has no use" in says(subnet, teacher, soft_weight=0.0)
    with pytest.raises(UsageError, match="there is no teacher"):
        Distillation(subnet.graph, {})
