"""Networks trained further: files that say how, accuracies that hold, nothing half-written."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path
from typing import Any

import pytest

from lutra.errors import CheckpointError, DataError, LutraError, TrainingError, UsageError
from lutra.search.export import export
from lutra.supernets.checkpoints.checkpoint import load_supernet, read_checkpoint, save_supernet
from lutra.supernets.checkpoints.network import load_network, save_network
from lutra.supernets.data.loading import load_images
from lutra.supernets.deployment.file_accuracy import evaluate
from lutra.supernets.deployment.fine_tuning import fine_tune
from lutra.supernets.deployment.tuned_network import FineTuned, fine_tune_network
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.evaluation import top1, tune_statistics
from tests.supernets.deployment.conftest import Trained
from tests.supernets.folders import write_images
from tests.supernets.images import write_idx
from tests.supernets.test_supernet import MBV3

IMAGES = 150


@pytest.fixture(scope="session")
def few(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The checkpoint, with few images of other patterns."""
    data = write_idx(tmp_path_factory.mktemp("few") / "images", IMAGES, size=20)
    return trained._replace(data=data)


def tuned(few: Trained, path: Path, **asked: Any) -> FineTuned:
    asked = {"network": few.architecture, "learning_rate": 0.05, **asked}
    return fine_tune_network(few.checkpoint, few.data, path, **asked)


@pytest.fixture(scope="session")
def alone(few: Trained, tmp_path_factory: pytest.TempPathFactory) -> FineTuned:
    """Five epochs of the labels alone."""
    return tuned(few, tmp_path_factory.mktemp("alone") / "tuned.pth", epochs=5)


def test_a_network_learns_and_its_file_says_how(few: Trained, alone: FineTuned) -> None:
    checkpoint = read_checkpoint(alone.path)
    assert checkpoint.architecture == few.architecture
    about = checkpoint.about
    assert about == alone.about
    assert about["checkpoint"] == "supernet.pt"
    digest = hashlib.sha256(few.checkpoint.read_bytes()).hexdigest()
    assert about["checkpoint_sha256"] == digest
    assert (about["epochs"], about["seed"], about["learning_rate"]) == (5, 0, 0.05)
    assert (about["loss"], about["teachers"]) == ({"label_weight": 1.0}, [])
    assert about["images"] == about["statistics_images"] == 135
    assert alone.before.count == alone.after.count == 15
    assert alone.after.percent > alone.before.percent + 20.0


def test_it_is_what_fine_tuning_gives(few: Trained, alone: FineTuned) -> None:
    train, resolution = load_images(few.data, "train"), few.architecture.r
    validation = load_images(few.data, "validation")
    _, subnet = load_network(few.checkpoint, few.architecture)
    tune_statistics(subnet, train, resolution)
    assert top1(subnet, validation, resolution) == alone.before
    fine_tune(subnet, train, resolution, 5, learning_rate=0.05)
    tune_statistics(subnet, train, resolution)
    assert top1(subnet, validation, resolution) == alone.after


def test_the_file_goes_where_a_checkpoint_or_a_network_is_asked_for(
    few: Trained, alone: FineTuned, tmp_path: Path
) -> None:
    assert evaluate(alone.path, few.data, split="validation").accuracy == alone.after
    metadata = export(alone.path, tmp_path / "m.onnx")
    digest = hashlib.sha256(alone.path.read_bytes()).hexdigest()
    assert metadata["weights"] == f"trained: tuned.pth, SHA-256 {digest}"
    assert metadata["statistics"] == "the network's own"
    export(few.architecture, tmp_path / "n.onnx", checkpoint=alone.path)
    assert (tmp_path / "m.onnx").read_bytes() == (tmp_path / "n.onnx").read_bytes()
    found = evaluate(tmp_path / "m.onnx", few.data, split="validation")
    assert found.accuracy == alone.after
    # and on from there, from its own statistics
    further = fine_tune_network(alone.path, few.data, alone.path.with_name("further.pth"))
    assert further.before == alone.after
    assert further.architecture == few.architecture


def test_teachers_of_each_kind(few: Trained, alone: FineTuned, tmp_path: Path) -> None:
    path = tmp_path / "tuned.pth"
    found = tuned(few, path, teachers=["largest", alone.path], fsp=True, soft_weight=0.25)
    assert found.about["loss"] == {
        "label_weight": 0.75,
        "soft_weight": 0.25,
        "temperature": 4.0,
        "fsp_weight": 1.0,
    }
    largest, own = found.about["teachers"]
    assert largest["checkpoint"] == "supernet.pt"
    assert largest["architecture"] == load_supernet(few.checkpoint).largest().to_json()
    assert own["checkpoint"] == "tuned.pth"
    assert own["architecture"] == few.architecture.to_json()
    # of a network's file the supernet is named: its largest teaches
    again = fine_tune_network(alone.path, few.data, path, teachers=[few.checkpoint])
    assert again.about["teachers"] == [largest]


def test_soft_labels_teach(few: Trained, alone: FineTuned, tmp_path: Path) -> None:
    """From a good teacher alone, without labels, a network comes to its accuracy."""
    asked: Any = {"teachers": [alone.path], "soft_weight": 1.0, "epochs": 8}
    found = tuned(few, tmp_path / "t.pth", **asked)
    assert found.after.percent > found.before.percent + 20.0
    assert found.to_json()["path"] == str(tmp_path / "t.pth")


def refused(kind: type[LutraError], few: Trained, path: Path, **asked: Any) -> str:
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(kind) as caught:
        tuned(few, path, **asked)
    assert (path.read_bytes() if path.exists() else None) == before
    (line,) = str(caught.value).splitlines()
    return line


def test_what_contradicts_itself(few: Trained, alone: FineTuned, tmp_path: Path) -> None:
    path = tmp_path / "t.pth"

    def says(**asked: Any) -> str:
        return refused(UsageError, few, path, **asked)

    assert "0 epochs of fine-tuning: at least 1" in says(epochs=0)
    assert "seed -1 must not" in says(seed=-1)
    assert "a learning rate of nan must" in says(learning_rate=float("nan"))
    for asked in ({"fsp": True}, {"temperature": 2.0}, {"soft_weight": 0.1}):
        assert "are a teacher's: name one (--teacher largest)" in says(**asked)
    assert "a temperature of -1 must" in says(teachers=["largest"], temperature=-1.0)
    with pytest.raises(UsageError, match="holds one network, of which there is no larger one"):
        fine_tune_network(alone.path, few.data, path, teachers=["largest"])
    assert not path.exists()


def test_files_that_do_not_fit(few: Trained, alone: FineTuned, tmp_path: Path) -> None:
    path = tmp_path / "t.pth"
    line = refused(CheckpointError, few, path, network=None)
    assert "is a supernet's: name one of its networks" in line
    largest = load_supernet(few.checkpoint).largest()
    with pytest.raises(CheckpointError, match="holds another network than"):
        fine_tune_network(alone.path, few.data, path, network=largest)
    other = Supernet("ofa-mbv3-w0.25/classes=3/stem=1/r=20:28:4")
    save_network(other.subnet(other.smallest()), other.smallest(), tmp_path / "three.pth", {})
    line = refused(UsageError, few, path, teachers=[tmp_path / "three.pth"])
    assert "three.pth takes images of 3 channels and knows 3 classes" in line
    line = refused(CheckpointError, few, path, teachers=[tmp_path / "none.pth"])
    assert "cannot read" in line
    with pytest.raises(DataError, match="its images have 3 channels"):
        fine_tune_network(
            few.checkpoint,
            write_images(tmp_path / "colour", ("a", "b"), 6),
            path,
            network=few.architecture,
        )
    line = refused(CheckpointError, few, tmp_path / "no" / "t.pth")
    assert "cannot write" in line


def test_a_supernet_is_not_written_over(few: Trained, tmp_path: Path) -> None:
    path = tmp_path / "supernet.pth"
    save_supernet(Supernet(MBV3), path, {})
    line = refused(UsageError, few, path)
    assert "one network's weights is not written over it" in line


def test_training_that_fails_or_is_stopped_leaves_the_older_file(
    few: Trained, tmp_path: Path
) -> None:
    path = tmp_path / "t.pth"
    first = tuned(few, path)
    line = refused(TrainingError, few, path, learning_rate=1e20, epochs=3)
    assert "try a smaller learning rate than 1e+20" in line

    def stop(done: int, expected: int) -> None:
        raise KeyboardInterrupt

    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        tuned(few, path, on_step=stop)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["t.pth"]
    assert tuned(few, tmp_path / "again.pth").after == first.after  # the same each time


def test_defaults_are_those_of_the_command_line() -> None:
    from lutra.cli.fine_tune import command

    parameters = inspect.signature(fine_tune_network).parameters
    shown = {item.name: item.default for item in command.params}
    for name in ("epochs", "learning_rate", "temperature", "soft_weight", "seed"):
        assert shown[name] == parameters[name].default, name
