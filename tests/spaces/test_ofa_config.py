"""OFA's config dictionaries: what we write its own networks take, and what it writes we read."""

import json
from pathlib import Path

import numpy as np
import pytest

from lutra.predictors.efficiency.costs import params_cost
from lutra.search.result import read_found
from lutra.spaces import get_space, parse_architecture
from tests.supernets.reference import reference

SPACES = ("ofa-mbv3-w1.0", "ofa-mbv3-w1.2", "ofa-proxyless-w1.3", "ofa-resnet50d")


@pytest.mark.parametrize("name", SPACES)
def test_ofa_s_networks_take_what_is_written(name: str, tmp_path: Path) -> None:
    """And become the network that we mean: it has as many parameters."""
    space, network = get_space(name), reference(name)
    rows = space.sample(4, np.random.default_rng(0))
    for row, params in zip(rows, params_cost(space).of(rows), strict=True):
        architecture = space.decode(row)
        path = tmp_path / "config.json"
        path.write_text(json.dumps(architecture.to_ofa()))
        config = json.loads(path.read_text())
        assert config["r"] == [architecture.r]
        network.set_active_subnet(**config)
        subnet = network.get_active_subnet(preserve_weight=False)
        assert sum(weights.numel() for weights in subnet.parameters()) == params
        assert read_found(path, name)[0] == architecture


@pytest.mark.parametrize("name", SPACES)
def test_what_ofa_draws_is_read(name: str) -> None:
    space, network = get_space(name), reference(name)
    for _ in range(3):
        drawn = network.sample_active_subnet()
        architecture = parse_architecture({**drawn, "image_size": 224}, name)
        params = params_cost(space).of(space.encode(architecture)[None, :])[0]
        subnet = network.get_active_subnet(preserve_weight=False)
        assert sum(weights.numel() for weights in subnet.parameters()) == params
