"""A user's own module, pruned to a budget."""

from pathlib import Path

import pytest
import torch
from torch import nn

from lutra.devices.fake import FakeDevice, FakeScript
from lutra.errors import DataError, InfeasibleError, ModelError, TrainingError, UsageError
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.search.result import SearchResult
from lutra.search.training.user_module import PrunedModule, prune_module
from lutra.spaces.narrower import NarrowerForms
from lutra.supernets.checkpoints.network import load_network, network_space
from lutra.supernets.deployment import resumption
from lutra.supernets.deployment.file_accuracy import evaluate
from lutra.supernets.evaluation import OnStep
from tests.supernets.small_data import write_small_data

DEVICE = FakeDevice(FakeScript())
FEW = {"images": 12, "calibration_images": 12, "sample_seconds": 30.0}


def layers(classes: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 1, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, classes),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stripes")
    write_small_data(folder)
    return folder


def pruned(
    data: Path,
    folder: Path,
    budget_ms: float,
    module: nn.Module,
    on_step: OnStep = lambda done, expected: None,
) -> PrunedModule:
    return prune_module(
        module,
        data,
        folder,
        resolution=20,
        max_latency_ms=budget_ms,
        device=DEVICE,
        epochs=3,
        on_step=on_step,
        **FEW,  # type: ignore[arg-type]
    )


def test_it_keeps_the_budget_and_is_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = layers(10)
    module.train()
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    full = pruned(data, tmp_path / "full", 100.0, module)
    full_ms = full.result.best.predicted_ms
    less = 0.7 * full_ms
    found = pruned(data, tmp_path / "less", less, module)
    assert found.result.closed_loop is not None
    assert found.result.best.verified is not None
    assert found.result.best.verified.within_budget
    assert found.module.graph.macs < full.module.graph.macs
    assert module.training
    assert all(torch.equal(module.state_dict()[name], value) for name, value in weights.items())
    found.write(tmp_path / "m.onnx")
    assert evaluate(tmp_path / "m.onnx", data, split="validation").accuracy == found.after
    # stopped in its training, it goes on there
    monkeypatch.setattr(resumption, "SAVE_SECONDS", 0.0)
    folder = tmp_path / "stopped"
    state = folder / "pruned.pth.state"

    def stop(done: int, expected: int) -> None:
        if state.exists():
            with pytest.raises(TrainingError, match="stopped is being trained into by this very"):
                pruned(data, folder, less, module)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pruned(data, folder, less, module, stop)
    with pytest.raises(UsageError, match="of another max_latency_ms: give the same"):
        pruned(data, folder, full_ms, module)
    assert not (folder / "pruned.pth").exists()
    steps: list[tuple[int, int]] = []
    again = pruned(data, folder, less, module, lambda *step: steps.append(step))
    assert steps == [(2, 3), (3, 3)]
    assert again.result.to_json() == SearchResult.read(folder / "found.json").to_json()
    assert again.result.best.architecture == found.result.best.architecture
    ours, theirs = again.module.state_dict(), found.module.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    _, kept = load_network(folder / "pruned.pth")
    assert all(torch.equal(ours[name], value) for name, value in kept.state_dict().items())
    assert not state.exists()


class Residual(nn.Module):
    """Half of its weights are in a body that the rest can do without."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head = nn.Conv2d(1, 16, 3, 2, 1), nn.Linear(16, 10)
        self.body = nn.Sequential(nn.Conv2d(16, 64, 3, 1, 1), nn.ReLU(), nn.Conv2d(64, 16, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.stem(images))
        features = torch.relu(features + self.body(features))
        return self.head(features.mean((2, 3)))  # type: ignore[no-any-return]


def test_blocks_are_left_out_where_no_widths_keep_the_budget(data: Path, tmp_path: Path) -> None:
    full = pruned(data, tmp_path, 100.0, Residual())
    space = network_space(tmp_path / "module.pth")
    assert isinstance(space, NarrowerForms)
    assert space.left_out(full.result.best.architecture) == 0
    predictor = EfficiencyPredictor(tmp_path / "widths.lut", space)
    least_ms, _ = predictor.latency.cheapest(space.resolutions)
    found = pruned(data, tmp_path, 1.05 * least_ms, Residual())
    assert space.left_out(found.result.best.architecture) == 1
    narrow = pruned(data, tmp_path, 0.8 * full.result.best.predicted_ms, Residual())
    assert space.left_out(narrow.result.best.architecture) == 0


def test_a_budget_below_what_fewer_channels_reach(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InfeasibleError, match="ms"):
        pruned(data, tmp_path / "far", 1e-4, layers(10))


@pytest.mark.parametrize(
    ("change", "error", "part"),
    [
        (lambda module: module.insert(3, nn.SiLU()), ModelError, "left alone.*SiLU"),
        (lambda module: nn.init.constant_(module[0].weight, float("nan")), ModelError, "finite"),
        (lambda module: module.append(nn.Linear(2, 2)), ModelError, "cannot be traced"),
    ],
)
def test_modules_that_cannot_be_pruned(
    change: object, error: type[Exception], part: str, data: Path, tmp_path: Path
) -> None:
    module = layers(10)
    assert callable(change)
    change(module)
    with pytest.raises(error, match=part):
        pruned(data, tmp_path / "none", 1.0, module)


def test_what_does_not_fit(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="classes"):
        pruned(data, tmp_path / "none", 1.0, layers(77))
    with pytest.raises(UsageError, match="leaves no time"):
        pruned(data, tmp_path / "none", 0.0, layers(10))
    assert not (tmp_path / "none").exists()
