"""Removing channels: none at full width, what dead ones leave, the smallest norms first."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lutra.errors import CheckpointError, UsageError
from lutra.ops import Graph
from lutra.spaces import Architecture, get_space
from lutra.spaces.graph_widths import GraphWidthSpace, narrower_forms
from lutra.spaces.narrower import NarrowerForms
from lutra.spaces.registry import remember_space
from lutra.spaces.widths import WidthSpace
from lutra.supernets.checkpoints.checkpoint import save_supernet
from lutra.supernets.checkpoints.network import load_network, load_subnets, save_network
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.pruning.channels import channel_groups
from lutra.supernets.pruning.removal import NarrowerNetworks, narrowed
from lutra.supernets.subnet import Subnet, initialise
from tests.ops.graphs import residual_graph
from tests.supernets.test_network import answers
from tests.supernets.test_supernet import MBV3, RESNET, disturbed

PROXYLESS = "ofa-proxyless-w1.0/classes=10/channels=1/r=20:28:4"


@pytest.fixture(scope="module", params=[MBV3, PROXYLESS, RESNET, "module"])
def networks(request: pytest.FixtureRequest) -> NarrowerNetworks:
    """The smallest network of each family, and a module's graph, of random numbers."""
    if request.param == "module":
        return of_graph(residual_graph())
    supernet = Supernet(request.param)
    disturbed(supernet)
    smallest = supernet.smallest()
    subnet = supernet.subnet(smallest).eval()
    return NarrowerNetworks(subnet, WidthSpace(smallest))


def of_graph(graph: Graph) -> NarrowerNetworks:
    subnet = Subnet(graph)
    initialise(subnet, seed=0)
    with torch.no_grad():
        disturbed(subnet)
    space = GraphWidthSpace(graph)
    remember_space(space)
    return NarrowerNetworks(subnet.eval(), space)


def some(space: NarrowerForms, seed: int = 0) -> Architecture:
    """A network that is narrower nearly everywhere."""
    return space.decode(space.sample(1, np.random.default_rng(seed))[0])


def same_answers(first: Subnet, second: Subnet) -> bool:
    outputs = []
    for subnet in (first, second):
        torch.manual_seed(5)
        outputs.append(answers(subnet))
    one, other = outputs
    return bool(torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(one.abs().max())))


def test_full_width_changes_nothing(networks: NarrowerNetworks) -> None:
    subnet = networks.subnet(networks.space.full)
    theirs = networks.network.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in subnet.state_dict().items())
    assert not subnet.training


@pytest.mark.parametrize("greedy", [False, True])
def test_without_dead_channels_all_is_as_before(networks: NarrowerNetworks, greedy: bool) -> None:
    """Channels of chance that are zero everywhere go, and nothing is computed otherwise.

    So do blocks that add nothing, of which one at least is left out.
    """
    architecture = some(networks.space, seed=23)
    graph, names = networks.space.graph(architecture), networks.space.full_names(architecture)
    channels = {name: graph.shapes[own].channels for own, name in names.items()}
    dead = copy_of(networks.network)
    assert len(names) < len(dead.graph.nodes)
    groups, rng = channel_groups(dead.graph), np.random.default_rng(0)
    alive = {}
    for group, nodes in groups.filters.items():
        count = dead.graph.shapes[nodes[0].name].channels
        kept = np.sort(rng.permutation(count)[: channels.get(nodes[0].name, 0)])
        alive[group] = torch.from_numpy(kept)
    for node in dead.graph.nodes:
        if node.has_weights:
            gone = torch.ones(dead.graph.shapes[node.name].channels, dtype=torch.bool)
            if node.name in channels:
                gone[alive[groups.of[node.name]]] = False
            silence(dead, node, gone)
    pruned = narrowed(dead, graph, names, greedy=greedy)
    assert same_answers(dead, pruned)
    assert not same_answers(networks.network, pruned)
    theirs = {node.name: node for node in dead.graph.nodes}
    for node in graph.nodes:  # those that were alive
        if node.bias == "batchnorm":
            source = theirs[names[node.name]]
            expected = dead.norm(source).running_mean[alive[groups.of[source.name]]]  # type: ignore[index]
            assert torch.equal(pruned.norm(node).running_mean, expected)  # type: ignore[arg-type]


@torch.no_grad()
def silence(subnet: Subnet, node: object, gone: torch.Tensor) -> None:
    layer = subnet.layer(node)  # type: ignore[arg-type]
    layer.weight[gone] = 0.0
    if layer.bias is not None:
        layer.bias[gone] = 0.0
    if node.bias == "batchnorm":  # type: ignore[attr-defined]
        norm = subnet.norm(node)  # type: ignore[arg-type]
        for array in (norm.weight, norm.bias, norm.running_mean):
            assert array is not None
            array[gone] = 0.0


def copy_of(subnet: Subnet) -> Subnet:
    return narrowed(subnet, subnet.graph, same_names(subnet))


def same_names(subnet: Subnet) -> dict[str, str]:
    return {node.name: node.name for node in subnet.graph.nodes}


def plain_network() -> tuple[Subnet, WidthSpace]:
    supernet = Supernet(RESNET)
    disturbed(supernet)
    smallest = supernet.smallest()
    return supernet.subnet(smallest).eval(), WidthSpace(smallest)


def test_the_largest_norms_stay_and_greedy_ones_are_over_what_is_kept() -> None:
    """By hand, in a bottleneck: its own layers between others that only it reads."""
    network, space = plain_network()
    graph = space.graph(some(space))
    names = space.full_names(some(space))
    nodes = {node.name: node for node in network.graph.nodes}
    reduce = next(node for name, node in nodes.items() if name.endswith(".reduce"))
    conv = nodes[reduce.name.replace(".reduce", ".conv")]
    first, second = (network.layer(node).weight.detach() for node in (reduce, conv))
    first_kept = largest(first.abs().sum((1, 2, 3)), graph.shapes[reduce.name].channels)
    for greedy in (False, True):
        read = second[:, first_kept] if greedy else second
        kept = largest(read.abs().sum((1, 2, 3)), graph.shapes[conv.name].channels)
        found = narrowed(network, graph, names, greedy=greedy)
        assert torch.equal(found.layer(conv).weight, second[kept][:, first_kept])


def largest(norms: torch.Tensor, count: int) -> torch.Tensor:
    return norms.argsort(descending=True)[:count].sort().values


def test_gates_do_not_say_which_channels_stay() -> None:
    """However large, for a gate may close; a depthwise filter's channel is its expansion's."""
    space = WidthSpace(get_space("ofa-mbv3-w1.0").decode(np.zeros(46, dtype=np.int16)))
    graph = space.graph(space.full)
    groups = channel_groups(graph)
    names = [[node.name for node in nodes] for nodes in groups.filters.values()]
    assert not any(name.endswith("se.expand") for members in names for name in members)
    gate = next(node.name for node in graph.nodes if node.name.endswith("se.expand"))
    block = gate.removesuffix(".se.expand")
    assert groups.of[gate] == groups.of[f"{block}.depthwise"] == f"{block}.expand"
    assert [f"{block}.expand", f"{block}.depthwise"] in names


def test_weights_that_are_not_finite_are_refused(networks: NarrowerNetworks) -> None:
    network = copy_of(networks.network)
    node = next(node for node in network.graph.nodes if node.op == "conv2d")
    nn.init.constant_(network.layer(node).weight, float("nan"))
    with pytest.raises(CheckpointError, match=f"{node.name} are not finite"):
        narrowed(network, network.graph, same_names(network))
    with pytest.raises(UsageError, match="known: independent, greedy"):
        NarrowerNetworks(network, networks.space, "largest")  # type: ignore[arg-type]


def test_a_narrower_form_of_what_a_file_holds(networks: NarrowerNetworks, tmp_path: Path) -> None:
    space, path = networks.space, tmp_path / "n.pth"
    base = space.base if isinstance(space, WidthSpace) else space.full
    save_network(networks.network, base, path, {})
    architecture = some(space)
    found, subnet = load_network(path, architecture)
    assert found == architecture
    expected = networks.subnet(architecture)
    assert same_answers(subnet, expected)
    assert load_subnets(path).space.name == space.name
    # again: of what was pruned
    save_network(expected, architecture, tmp_path / "p.pth", {})
    again = narrower_forms(architecture)
    assert get_space(again.name).name == again.name
    narrower = load_network(tmp_path / "p.pth", again.decode(again.choice_counts * 0))[1]
    assert narrower.graph.macs < expected.graph.macs
    assert answers(narrower).isfinite().all()
    family = get_space(MBV3)
    other = WidthSpace(family.decode(family.choice_counts - 1))
    with pytest.raises(CheckpointError, match="another network than the one"):
        load_network(path, other.full)


def test_a_narrower_form_of_a_supernet_s_network(tmp_path: Path) -> None:
    supernet = Supernet(MBV3).eval()
    save_supernet(supernet, tmp_path / "s.pth", {})
    space = WidthSpace(supernet.smallest())
    _, found = load_network(tmp_path / "s.pth", some(space))
    expected = NarrowerNetworks(supernet.subnet(supernet.smallest()), space).subnet(some(space))
    assert same_answers(found, expected)
    other = WidthSpace(Supernet(RESNET).smallest())
    with pytest.raises(CheckpointError, match="is a supernet of"):
        load_network(tmp_path / "s.pth", other.full)
