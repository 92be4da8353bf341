"""Brief trainings that were stopped go on to the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lutra.errors import CheckpointError, LutraError, TrainingError, UsageError
from lutra.search.export import export
from lutra.supernets.checkpoints.network import load_network
from lutra.supernets.deployment import resumption
from lutra.supernets.deployment.clustering import cluster
from lutra.supernets.deployment.tuned_network import fine_tune_network
from lutra.supernets.quantization.quantize import quantize
from tests.supernets.deployment.conftest import Trained
from tests.supernets.images import write_idx

STEPS = 4  # of two epochs
OnStep = Callable[[int, int], None]


@pytest.fixture(scope="module")
def few(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The checkpoint, with images for two steps an epoch."""
    data = write_idx(tmp_path_factory.mktemp("few") / "images", 150, size=20)
    return trained._replace(data=data)


def tuned(few: Trained, path: Path, on_step: OnStep, **asked: Any) -> None:
    asked = {"network": few.architecture, "epochs": 2, **asked}
    fine_tune_network(few.checkpoint, few.data, path, on_step=on_step, **asked)


def clustered(few: Trained, path: Path, on_step: OnStep) -> None:
    cluster(
        few.checkpoint, few.data, path, architecture=few.architecture, epochs=2, on_step=on_step
    )


def quantised(few: Trained, path: Path, on_step: OnStep, observer: str = "window-mean") -> None:
    options: dict[str, Any] = {"ranges": "trained", "epochs": 2, "observer": observer}
    model = path.with_suffix(".onnx")
    quantize(
        model, few.checkpoint, few.data, few.architecture, network=path, on_step=on_step, **options
    )


def exported(few: Trained, path: Path, on_step: OnStep) -> None:
    options: dict[str, Any] = {
        "data": few.data,
        "fine_tune_epochs": 2,
        "checkpoint": few.checkpoint,
    }
    export(few.architecture, path, format="torch", on_step=on_step, **options)


def stop_at(step: int) -> OnStep:
    def on_step(done: int, expected: int) -> None:
        assert expected == STEPS
        if done == step:
            raise KeyboardInterrupt

    return on_step


def weights(path: Path) -> dict[str, torch.Tensor]:
    if "lutra_torch" in (document := torch.load(path, weights_only=True)):
        found: dict[str, torch.Tensor] = document["weights"]
        return found
    return {**load_network(path)[1].state_dict()}


@pytest.mark.parametrize("train", [tuned, clustered, quantised, exported])
def test_stopped_it_comes_to_the_same(
    train: Callable[[Trained, Path, OnStep], None],
    few: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resumption, "SAVE_SECONDS", 0.0)
    whole, stopped = tmp_path / "whole.pth", tmp_path / "stopped.pth"

    def also(done: int, expected: int) -> None:
        if done == 1:
            with pytest.raises(TrainingError, match="is being trained into by this very run"):
                train(few, whole, stop_at(1))

    train(few, whole, also)
    with pytest.raises(KeyboardInterrupt):
        train(few, stopped, stop_at(3))
    assert not stopped.exists()
    left: list[int] = []

    def in_the_way(done: int, expected: int) -> None:
        left.append(done)
        for path in (stopped, stopped.with_suffix(".onnx")):
            path.mkdir()

    with pytest.raises(LutraError):
        train(few, stopped, in_the_way)
    for path in (stopped, stopped.with_suffix(".onnx")):
        path.rmdir()
    assert left == [4]
    train(few, stopped, lambda done, expected: left.append(done))
    assert left == [4]  # what was trained was not lost with the file
    one, other = weights(whole), weights(stopped)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not list(tmp_path.glob("*.state"))


def test_states_that_do_not_fit(
    few: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumption, "SAVE_SECONDS", 0.0)
    path, state = tmp_path / "n.pth", tmp_path / "n.pth.state"
    with pytest.raises(KeyboardInterrupt):
        tuned(few, path, stop_at(1))
    kept = state.read_bytes()
    with pytest.raises(UsageError, match=r"n.pth.state is .* of another learning_rate, seed: give"):
        tuned(few, path, stop_at(1), learning_rate=0.02, seed=1)
    with pytest.raises(UsageError, match="of another values, bit_price"):
        clustered(few, path, stop_at(1))
    assert state.read_bytes() == kept
    document = torch.load(state, weights_only=True)
    document["weights"].popitem()
    torch.save(document, state)
    with pytest.raises(CheckpointError, match="n.pth.state is damaged"):
        tuned(few, path, stop_at(1))
    state.write_bytes(kept[:-200])
    with pytest.raises(CheckpointError, match="or it is damaged: remove it"):
        tuned(few, path, stop_at(1))
    state.write_bytes(b"my notes")
    with pytest.raises(UsageError, match="a file of another kind"):
        tuned(few, path, stop_at(1))
    state.unlink()
    with pytest.raises(TrainingError, match="smaller learning rate"):
        tuned(few, path, lambda done, expected: None, learning_rate=1e9)
    assert not path.exists()
    assert not state.exists()
