"""Files of one network: its weights come back, and what is another network's is refused."""

from pathlib import Path

import pytest
import torch

from lutra.errors import CheckpointError
from lutra.spaces import Architecture
from lutra.supernets.checkpoints.checkpoint import load_supernet, save_supernet
from lutra.supernets.checkpoints.network import load_network, save_network
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.subnet import Subnet
from tests.supernets.test_supernet import MBV3, RESNET, disturbed


@pytest.fixture(scope="module", params=[MBV3, RESNET])
def supernet(request: pytest.FixtureRequest) -> Supernet:
    """One of random numbers that tests only read."""
    supernet = Supernet(request.param)
    disturbed(supernet)
    return supernet.eval()


def answers(subnet: Subnet) -> torch.Tensor:
    shape = subnet.graph.input_shape
    images = torch.randn(2, shape.channels, shape.height, shape.width)
    with torch.inference_mode():
        found: torch.Tensor = subnet(images)
    return found


def test_weights_come_back(supernet: Supernet, tmp_path: Path) -> None:
    architecture, subnet = supernet.smallest(), supernet.subnet(supernet.smallest())
    save_network(subnet, architecture, tmp_path / "n.pth", {"epochs": 1})
    found, again = load_network(tmp_path / "n.pth")
    assert found == architecture
    assert not again.training
    torch.manual_seed(0)
    expected = answers(subnet)
    torch.manual_seed(0)
    assert torch.equal(answers(again), expected)
    assert load_network(tmp_path / "n.pth", architecture)[0] == architecture


def test_a_supernet_s_file_gives_the_named_network(supernet: Supernet, tmp_path: Path) -> None:
    save_supernet(supernet, tmp_path / "s.pth", {})
    with pytest.raises(CheckpointError, match="name one of its networks"):
        load_network(tmp_path / "s.pth")
    _, subnet = load_network(tmp_path / "s.pth", supernet.smallest())
    own = supernet.subnet(supernet.smallest()).state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in subnet.state_dict().items())


def test_another_network_is_refused(supernet: Supernet, tmp_path: Path) -> None:
    smallest = supernet.smallest()
    save_network(supernet.subnet(smallest), smallest, tmp_path / "n.pth", {})
    with pytest.raises(CheckpointError, match="another network"):
        load_network(tmp_path / "n.pth", supernet.largest())
    with pytest.raises(CheckpointError, match="one network; a supernet is needed"):
        load_supernet(tmp_path / "n.pth")


@pytest.mark.parametrize(
    ("architecture", "part"),
    [
        (None, "must be a JSON object"),
        ({"space": "nowhere", "r": 20}, "unknown space"),
        ({"space": MBV3, "ks": [3], "r": 20}, "'e' is missing"),
    ],
)
def test_a_file_whose_network_is_none(architecture: object, part: str, tmp_path: Path) -> None:
    document = {"lutra_network": 1, "architecture": architecture, "about": {}, "state_dict": {}}
    torch.save(document, tmp_path / "n.pth")
    with pytest.raises(CheckpointError, match=part) as refused:
        load_network(tmp_path / "n.pth")
    assert "\n" not in str(refused.value)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    supernet = Supernet(MBV3)
    small, large = supernet.smallest(), supernet.largest()
    save_network(supernet.subnet(small), large, tmp_path / "n.pth", {})
    with pytest.raises(CheckpointError, match="is no network of"):
        load_network(tmp_path / "n.pth")
    other = Architecture(small.space, small.r, {**dict(small.lists), "ks": (5,) * 20})
    save_network(supernet.subnet(small), other, tmp_path / "o.pth", {})
    with pytest.raises(CheckpointError, match="has the shape"):
        load_network(tmp_path / "o.pth")
