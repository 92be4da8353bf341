"""A user's module becomes a network of equal outputs, or is left alone by name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lutra.emitters.emission import Emission
from lutra.errors import ModelError, UsageError
from lutra.spaces.graph_widths import GraphWidthSpace
from lutra.spaces.lattice import NO_OP
from lutra.supernets.deployment.runners import open_model
from lutra.supernets.deployment.tracing import traced
from tests.supernets.test_supernet import disturbed

SHAPE = (3, 32, 32)


class Basic(nn.Module):
    """ResNet's basic block, with a projection where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.second_norm = nn.BatchNorm2d(outputs, eps=1e-3)
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, features: Tensor) -> Tensor:
        inner = functional.relu(self.first_norm(self.first(features)))
        inner = self.second_norm(self.second(inner))
        inner += self.shortcut(features)
        return functional.relu(inner)


class Residual(nn.Module):
    """A small ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.Sequential(Basic(16, 16, 1), Basic(16, 32, 2), Basic(32, 32, 1))
        self.classifier = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        features = self.blocks(self.pool(self.stem(images)))
        pooled = functional.adaptive_avg_pool2d(features, 1)
        answers: Tensor = self.classifier(torch.flatten(pooled, 1))
        return answers


class Gated(nn.Module):
    """Depthwise layers, squeeze-and-excitation, a mean for the pool, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Conv2d(3, 24, 1)
        self.depthwise = nn.Conv2d(24, 24, 5, 2, 2, groups=24, bias=False)
        self.norm = nn.BatchNorm2d(24)
        self.act = nn.Hardswish()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Sequential(
            nn.Conv2d(24, 8, 1), nn.ReLU6(), nn.Conv2d(8, 24, 1), nn.Hardsigmoid()
        )
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(24, 12), nn.ReLU(), nn.Dropout(), nn.Linear(12, 4)
        )

    def forward(self, images: Tensor) -> Tensor:
        features = self.act(self.norm(self.depthwise(self.expand(images))))
        features = self.gate(self.pool(features)) * features
        answers: Tensor = self.head(features.mean([2, 3]))
        return answers


@pytest.fixture(params=[Residual, Gated])
def module(request: pytest.FixtureRequest) -> nn.Module:
    made: nn.Module = request.param()
    disturbed(made)
    return made.eval()


@torch.inference_mode()
def test_outputs_are_equal(module: nn.Module) -> None:
    images = torch.randn(4, *SHAPE)
    torch.testing.assert_close(traced(module, SHAPE)(images), module(images), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_it_is_emitted_like_any_network(module: nn.Module, tmp_path: Path) -> None:
    subnet = traced(module, SHAPE)
    images = torch.randn(1, *SHAPE)
    for name in ("onnx", "tflite"):
        path = tmp_path / f"m.{name}"
        path.write_bytes(Emission(name).emit(subnet.graph, subnet.weights()))
        answers = open_model(path)(images)
        torch.testing.assert_close(answers, module(images), atol=1e-3, rtol=1e-3)


def test_its_narrower_forms_are_a_space(module: nn.Module) -> None:
    subnet = traced(module, SHAPE)
    space = GraphWidthSpace(subnet.graph)
    assert space.graph(space.full) == subnet.graph
    prices = np.array([op.macs for op in space.ops], dtype=np.float64)
    least, row = space.lattice(32).cheapest(prices)
    for each in (*space.sample(5, np.random.default_rng(0)), row):
        graph = space.graph(space.decode(each))
        indices = space.op_indices(each[None])
        assert prices[indices[indices != NO_OP]].sum() == graph.macs
        assert graph.macs >= least
        assert Emission().emit(
            graph, {n: np.zeros(s, np.float32) for n, s in graph.weight_shapes()}
        )
    assert GraphWidthSpace(traced(module, SHAPE).graph).name == space.name


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        ([nn.Conv2d(3, 8, 3)], "Conv2d"),
        ([nn.Conv2d(3, 8, 3, padding=2, dilation=2)], "dilation"),
        ([nn.SiLU()], "SiLU"),
        ([nn.BatchNorm2d(3)], "BatchNorm2d"),
        ([nn.Conv2d(3, 8, 1), nn.ReLU(), nn.BatchNorm2d(8)], "BatchNorm2d"),
        ([nn.AvgPool2d(3, 2)], "AvgPool2d"),
        ([nn.LSTM(3, 3)], "traced|LSTM"),
    ],
)
def test_what_cannot_be_followed_is_named(layers: list[nn.Module], named: str) -> None:
    with pytest.raises(ModelError, match=named) as refused:
        traced(nn.Sequential(*layers), SHAPE)
    assert "\n" not in str(refused.value)


def test_images_that_are_not_the_module_s() -> None:
    with pytest.raises(ModelError, match="cannot be traced"):
        traced(Residual(), (1, 32, 32))
    with pytest.raises(ModelError, match="square"):
        traced(Residual(), (3, 32, 16))


def test_a_module_without_inner_channels_has_no_narrower_forms() -> None:
    with pytest.raises(UsageError, match="no layer"):
        GraphWidthSpace(traced(nn.Sequential(nn.Conv2d(3, 8, 1)), SHAPE).graph)
