"""Clustered networks have few values per layer, in the files that are made of them too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lutra.errors import CheckpointError, UsageError
from lutra.packing.pack import pack
from lutra.search.export import export
from lutra.supernets.checkpoints.network import load_network
from lutra.supernets.deployment.clustering import cluster
from lutra.supernets.deployment.shared_values import STEPS, SharedValues, bits_per_weight
from lutra.supernets.subnet import Subnet
from tests.cli.test_cli import Capture, call, call_json
from tests.supernets.deployment.conftest import Trained

VALUES = 7


def weight(seed: int = 0) -> torch.Tensor:
    return torch.randn(12, 9, 3, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [2, 3, 7, 16, 256])
def test_a_layer_has_so_many_values_in_whole_steps(count: int) -> None:
    shared = SharedValues(weight(), count, 0.0).eval()(weight()).detach()
    largest = weight().abs().flatten(1).amax(1)[:, None, None, None]
    steps = shared / largest * STEPS
    assert torch.allclose(steps, steps.round(), atol=1e-3)
    assert len(steps.round().unique()) <= count
    assert torch.equal(shared.abs().flatten(1).amax(1), largest.flatten())  # as exported scales say


def test_more_values_err_less_and_dear_bits_are_fewer() -> None:
    def found(count: int, price: float) -> tuple[float, float]:
        shared = SharedValues(weight(), count, price).eval()(weight()).detach()
        return float((shared - weight()).square().mean()), bits_per_weight([shared])

    errors = [found(count, 0.0)[0] for count in (3, 7, 15, 63)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01 * errors[0]
    bits = [found(15, price)[1] for price in (0.0, 0.02, 0.1)]
    assert bits == sorted(bits, reverse=True)
    assert bits[-1] < 0.8 * bits[0]


def test_pruned_weights_stay_zero_and_gradients_reach_values_and_weights() -> None:
    sparse = weight() * (weight(1) > 0)
    parameter = torch.nn.Parameter(sparse.clone())
    shared = SharedValues(sparse, VALUES, 0.02)
    result = shared(parameter)
    assert torch.equal(result == 0, (sparse == 0) | (result == 0))
    assert (result[sparse == 0] == 0).all()
    result.square().sum().backward()
    assert parameter.grad is not None
    assert (parameter.grad[sparse == 0] == 0).all()
    assert (parameter.grad[sparse != 0] != 0).any()
    assert shared.values.grad is not None
    assert (shared.values.grad[[0, VALUES // 2, -1]] == 0).all()  # -1, 0 and 1 stay
    assert (shared.values.grad != 0).any()


@pytest.fixture(scope="module")
def clustered(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clustered") / "n.pth"
    found = cluster(
        trained.checkpoint,
        trained.data,
        path,
        architecture=trained.architecture,
        values=VALUES,
        epochs=1,
    )
    assert found.top1 > 45.0
    assert found.bits_per_weight < 2.8
    return path


def large_layers(subnet: Subnet) -> dict[str, torch.Tensor]:
    arrays = ((name, torch.from_numpy(array)) for name, array in subnet.weights().items())
    return {name: array for name, array in arrays if array.numel() >= 1000}


def test_the_emitted_file_has_as_few_integers(
    clustered: Path, trained: Trained, tmp_path: Path
) -> None:
    """Folded batch normalisations scale channels, which an 8-bit file keeps apart."""
    _, subnet = load_network(clustered)
    assert large_layers(subnet)
    model, plain = tmp_path / "m.onnx", tmp_path / "plain.onnx"
    for checkpoint, path in ((clustered, model), (trained.checkpoint, plain)):
        export(
            trained.architecture, path, checkpoint=checkpoint, data=trained.data, precision="int8"
        )
    import onnx

    for path, few in ((model, True), (plain, False)):
        arrays = [
            set(item.raw_data)
            for item in onnx.load(path).graph.initializer
            if item.name.endswith("weight.quantized") and len(item.raw_data) >= 1000
        ]
        assert arrays
        assert all((len(values) <= VALUES) == few for values in arrays)
    sizes = [pack(path, path.with_suffix(".lpk")).pack_bytes for path in (model, plain)]
    assert sizes[0] < 0.6 * sizes[1]


def test_the_command_writes_a_network_file(
    trained: Trained, tmp_path: Path, capsys: Capture
) -> None:
    import json

    result, path = tmp_path / "a.json", tmp_path / "n.pth"
    result.write_text(json.dumps(trained.architecture.to_json()))
    flags = ["--checkpoint", trained.checkpoint, "--data", trained.data, "-o", path]
    found = call_json(capsys, "cluster", result, *flags, "--values", "5", "--epochs", "0")
    assert found["values"] == 5
    again = call_json(
        capsys, "cluster", *["--checkpoint", path, "--data", trained.data], "-o", path,
        *["--values", "3", "--epochs", "0"],
    )  # fmt: skip
    assert again["architecture"] == trained.architecture.to_json()
    assert again["bits_per_weight"] < found["bits_per_weight"]
    assert call("cluster", *flags[:4], "-o", path) == 1
    assert "name one of its networks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"values": 1}, "1 values per layer: 2 to 256"),
        ({"values": 257}, "257 values per layer"),
        ({"bit_price": -1.0}, "a bit's price of -1"),
        ({"bit_price": float("nan")}, "a bit's price of nan"),
        ({"epochs": -1}, "-1 epochs"),
    ],
)
def test_bad_settings_are_refused(
    settings: dict[str, float], part: str, trained: Trained, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=part):
        cluster(trained.checkpoint, trained.data, tmp_path / "n.pth", **settings)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="cannot write"):
        cluster(trained.checkpoint, trained.data, tmp_path / "nowhere" / "n.pth")
    assert not list(tmp_path.iterdir())
