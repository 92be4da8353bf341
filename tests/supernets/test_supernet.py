"""Supernets against OFA's own code, subnets against supernets."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lutra.emitters.emission import Emission
from lutra.emitters.torch import torch_module
from lutra.errors import UsageError
from lutra.spaces import Architecture, SearchSpace, get_space
from lutra.supernets.elastic.sorting import sort_channels
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.subnet import Subnet, initialise
from tests.supernets.reference import reference

MBV3 = "ofa-mbv3-w0.25/classes=10/channels=1/stem=1/r=20:28:4"
PROXYLESS = "ofa-proxyless-w0.25/classes=10/channels=1/stem=1/r=20:28:4"
RESNET = "ofa-resnet50d-w0.25/classes=10/channels=1/stem=1/r=20:28:4"
small_spaces = pytest.mark.parametrize("name", [MBV3, PROXYLESS, RESNET])


@torch.no_grad()
def disturbed(network: nn.Module, seed: int = 0) -> None:
    """Random numbers everywhere, also where networks begin with ones and zeros."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        spread = parameter.std().nan_to_num(0.02) if parameter.numel() > 1 else torch.tensor(0.02)
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.add_(noise * (0.3 * spread + 0.01))
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1, generator=generator)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5, generator=generator)


def random_architectures(space: SearchSpace, count: int, seed: int = 0) -> Iterator[Architecture]:
    for row in space.sample(count, np.random.default_rng(seed)):
        yield space.decode(row)


def images_for(architecture: Architecture, channels: int = 1, count: int = 2) -> Tensor:
    size = (count, channels, architecture.r, architecture.r)
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["ofa-mbv3-w1.0", "ofa-proxyless-w1.3", "ofa-resnet50d"])
def test_the_same_as_ofa_s_own_networks(name: str) -> None:
    theirs = reference(name).eval()
    disturbed(theirs)
    ours = Supernet(name).eval()
    assert set(ours.state_dict()) == set(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    for architecture in random_architectures(ours.space, 3):
        lists = {key: list(values) for key, values in architecture.lists}
        theirs.set_active_subnet(**lists)
        images = images_for(architecture, 3, 1)
        with torch.no_grad():
            expected, got = theirs(images), ours(images, architecture)
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "parameters", "tensors"),
    [
        ("ofa-mbv3-w1.0", 7_678_880, 475),
        ("ofa-mbv3-w1.2", 10_715_752, 475),
        ("ofa-proxyless-w1.3", 7_956_882, 446),
        ("ofa-resnet50d", 48_105_992, 368),
    ],
)
def test_published_sizes(name: str, parameters: int, tensors: int) -> None:
    supernet = Supernet(name)
    assert sum(parameter.numel() for parameter in supernet.parameters()) == parameters
    assert len(supernet.state_dict()) == tensors


@small_spaces
def test_a_subnet_is_equal_to_the_supernet_s_and_so_are_its_weights(name: str) -> None:
    supernet = Supernet(name)
    disturbed(supernet)
    supernet.eval()
    for architecture in [
        supernet.largest(),
        supernet.smallest(),
        *random_architectures(supernet.space, 5),
    ]:
        images = images_for(architecture)
        with torch.no_grad():
            expected = supernet(images, architecture)
            subnet = supernet.subnet(architecture)
            folded = torch_module(subnet.graph, subnet.weights())
            torch.testing.assert_close(subnet(images), expected, atol=1e-6, rtol=0)
            torch.testing.assert_close(folded(images), expected, atol=1e-4, rtol=1e-4)


@small_spaces
def test_training_a_subnet_is_training_the_supernet(name: str) -> None:
    """Gradients and running statistics are those of the network on its own."""
    supernet = Supernet(name)
    disturbed(supernet)
    supernet.train()
    (architecture,) = random_architectures(supernet.space, 1, seed=3)
    subnet = supernet.subnet(architecture)
    assert subnet.training
    images = images_for(architecture, count=8)
    for network, output in ((supernet, supernet(images, architecture)), (subnet, subnet(images))):
        output.square().sum().backward()
        assert network.training
    expected = {
        name: float(layer.weight.grad.norm())
        for name, layer in subnet.layers.items()
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.weight.grad is not None
    }
    for position, (slot, op) in enumerate(supernet.slots(architecture)):
        for node in op.graph.nodes:
            if node.has_weights and node.op != "depthwise":  # whose kernel passes a matrix
                local = node.name.partition(".")[2]
                layer = supernet._layers[slot, local].layer
                assert layer.weight.grad is not None
                own = expected[f"u{position:02d}/{local}".replace(".", "/")]
                assert float(layer.weight.grad.norm()) == pytest.approx(own, rel=1e-3, abs=1e-6)
    torch.testing.assert_close(
        supernet.eval()(images, architecture), subnet.eval()(images), atol=1e-5, rtol=1e-5
    )


def test_recomputed_feature_maps_give_the_same_gradients_and_statistics() -> None:
    gradients, statistics = [], []
    for recompute in (False, True):
        supernet = Supernet(MBV3, recompute=recompute)
        initialise(supernet, seed=0)
        supernet.train()
        supernet(images_for(supernet.largest(), count=4)).square().sum().backward()
        gradients.append([parameter.grad for parameter in supernet.parameters()])
        statistics.append(dict(supernet.named_buffers()))
    for kept, again in zip(*gradients, strict=True):
        if kept is None:
            assert again is None
        else:
            torch.testing.assert_close(again, kept)
    for name, once in statistics[0].items():
        assert torch.equal(once, statistics[1][name]), name


def test_smaller_kernels_pass_the_matrices() -> None:
    supernet = Supernet(MBV3).eval()
    disturbed(supernet)
    smallest = supernet.smallest()
    images = images_for(smallest)
    before = supernet(images, smallest)
    with torch.no_grad():
        for name, parameter in supernet.named_parameters():
            if name.endswith("7to5_matrix"):
                parameter.mul_(1.5)
    assert not torch.allclose(supernet(images, smallest), before)


@small_spaces
def test_sorting_changes_no_output_and_puts_the_important_first(name: str) -> None:
    supernet = Supernet(name)
    disturbed(supernet)
    supernet.eval()
    largest = supernet.largest()
    images = images_for(largest)
    expected = supernet(images)
    sort_channels(supernet)
    torch.testing.assert_close(supernet(images), expected, atol=1e-5, rtol=1e-4)
    reader, static = ("expand", -1) if name == RESNET else ("project", 1)
    norms = [
        layer.layer.weight.detach().abs().sum((0, 2, 3))
        for slot, node, layer in supernet.layers()
        if node == reader and slot != static
    ]
    assert len(norms) > 15
    assert all(bool((norm.diff() <= 1e-6).all()) for norm in norms)


def test_sorting_keeps_channels_that_were_trained_as_a_prefix() -> None:
    supernet = Supernet(MBV3)
    disturbed(supernet)
    supernet.eval()
    smaller = supernet.largest()
    lists = {key: values for key, values in smaller.lists} | {"e": (4,) * 20}
    smaller = Architecture(smaller.space, smaller.r, lists)
    images = images_for(smaller)
    expected = supernet(images, smaller)
    sort_channels(supernet, kept=(4,))
    torch.testing.assert_close(supernet(images, smaller), expected, atol=1e-5, rtol=1e-4)
    sort_channels(supernet)
    assert not torch.allclose(supernet(images, smaller), expected, atol=1e-3)


def test_a_space_of_another_kind_has_no_supernet() -> None:
    abstract = dict.fromkeys(("genes", "ops", "op_indices", "canonical", "build_lattice"))
    other: Any = type("Other", (SearchSpace,), {**abstract, "name": "other"})
    with pytest.raises(UsageError, match="no supernets of space 'other'"):
        Supernet(other())


def test_a_network_on_its_own_can_be_trained_and_emitted() -> None:
    space = get_space(MBV3)
    graph = space.graph(next(random_architectures(space, 1)))
    network = Subnet(graph, dropout=0.5)
    initialise(network, seed=1)
    images = torch.randn(16, 1, graph.input_shape.height, graph.input_shape.width)
    labels = torch.arange(16) % 10
    optimizer = torch.optim.SGD(network.parameters(), 0.05)
    losses = []
    for _ in range(8):
        loss = nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert Emission("tflite").emit(graph, network.eval().weights())[4:8] == b"TFL3"
