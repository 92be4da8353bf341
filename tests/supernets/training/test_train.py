"""Training itself: that it learns, goes on where it was, and says in one line why it cannot."""

import resource
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import Module

from lutra.errors import CheckpointError, DataError, TrainingError, UsageError
from lutra.supernets.checkpoints.checkpoint import load_supernet
from lutra.supernets.training import loop
from lutra.supernets.training import losses as losses_of_networks
from lutra.supernets.training.events import EventLog
from lutra.supernets.training.loop import Training
from lutra.supernets.training.optimization import set_rate
from lutra.supernets.training.settings import Settings
from lutra.supernets.training.train import TrainedSupernet, train_supernet
from tests.supernets.folders import write_images
from tests.supernets.images import write_idx
from tests.supernets.training.conftest import Train
from tests.supernets.training.tiny import OPTIONS, SPACE

FITTING = "ofa-mbv3-w0.25/classes=4/channels=1/r=16:20:4"


class Stop(Exception):
    """What ends a training in the middle."""


def stop_at(step: int) -> Any:
    def on_step(done: int, expected: int, eta_seconds: float) -> None:
        if done == step:
            raise Stop

    return on_step


def assert_same_end(one: TrainedSupernet, other: TrainedSupernet) -> None:
    """Bit for bit the same weights and losses."""
    weights = [load_supernet(each.path, SPACE).state_dict() for each in (one, other)]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
    assert one.about["history"] == other.about["history"]


def losses(trained: TrainedSupernet) -> list[float]:
    return [record["loss"] for record in trained.about["history"]]


def test_all_networks_learn(tmp_path: Path) -> None:
    images = write_idx(tmp_path / "images", 300, classes=4, size=16)
    trained = train_supernet(
        SPACE, images, tmp_path, method="sandwich", epochs=4, batch=24, learning_rate=0.1
    )
    assert losses(trained)[-1] < losses(trained)[0] - 0.2
    assert trained.largest_top1_percent > 60  # by chance 25, with every seed tried 100
    assert trained.smallest_top1_percent > 60
    load_supernet(trained.path, SPACE)
    about = trained.about
    assert {name: about[name] for name in ("method", "epochs", "seed")} == {
        "method": "sandwich",
        "epochs": 4,
        "seed": 0,
    }
    assert about["seconds"] > 0


def test_progressive_shrinking_passes_all_phases(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the rate that is logged of each epoch is its last step's."""
    notes: list[str] = []
    steps: list[tuple[int, int, float]] = []
    used: list[float] = []
    logged: list[float] = []

    def noted(optimizer: torch.optim.Optimizer, rate: float) -> None:
        used.append(rate)
        set_rate(optimizer, rate)

    def write(log: EventLog, step: int, numbers: dict[str, float]) -> None:
        logged.append(numbers["learning_rate"])

    monkeypatch.setattr(loop, "set_rate", noted)
    monkeypatch.setattr(EventLog, "write", write)
    trained = train(
        tmp_path,
        method="progressive",
        epochs=6,
        on_note=notes.append,
        on_step=lambda *numbers: steps.append(numbers),
    )
    assert [record["phase"] for record in trained.about["history"]] == [
        "largest",
        "kernel",
        "depth 1",
        "depth 2",
        "expand 1",
        "expand 2",
    ]
    assert [record["epoch"] for record in trained.about["history"]] == [1, 2, 3, 4, 5, 6]
    assert [done for done, _, _ in steps] == list(range(1, 19))
    assert {expected for _, expected, _ in steps} == {18}
    assert all(eta >= 0 for _, _, eta in steps)
    assert steps[-1][2] == pytest.approx(0.0, abs=1e-6)
    assert notes[0].startswith("epoch 1/6 (largest): loss ")
    assert len(used) == 18
    assert min(used) > 0
    assert logged == used[2::3]


@pytest.mark.parametrize(
    ("method", "epochs", "accumulate", "steps"),
    [("sandwich", 3, 2, (2, 7)), ("progressive", 6, 1, (4, 14))],
)
def test_stopped_anywhere_it_comes_to_the_same_weights(
    method: str, epochs: int, accumulate: int, steps: tuple[int, ...], train: Train, tmp_path: Path
) -> None:
    options = {"method": method, "epochs": epochs, "accumulate": accumulate, "workers": 1}
    unbroken = train(tmp_path / "unbroken", **options)
    for step in steps:
        with pytest.raises(Stop):
            train(tmp_path / "stopped", save_seconds=0.0, on_step=stop_at(step), **options)
    notes: list[str] = []
    again = train(tmp_path / "stopped", on_note=notes.append, **options)
    # The last state was written after the step before the one that it was stopped in.
    assert (
        notes[0] == f"going on at epoch {(steps[-1] - 1) // 3 + 1}, step {(steps[-1] - 1) % 3 + 1}"
    )
    assert_same_end(again, unbroken)


def test_other_seeds_give_other_weights(
    train: Train, unbroken: TrainedSupernet, tmp_path: Path
) -> None:
    again, other = train(tmp_path / "again"), train(tmp_path / "other", seed=1)
    assert_same_end(again, unbroken)
    assert losses(other) != losses(unbroken)


def test_recomputing_gives_the_same_losses(
    train: Train, unbroken: TrainedSupernet, tmp_path: Path
) -> None:
    assert losses(train(tmp_path, recompute=True)) == pytest.approx(losses(unbroken), rel=1e-4)


@pytest.mark.parametrize("method", ["sandwich", "progressive"])
def test_gradients_of_parts_sum_to_those_of_the_batch(
    method: str, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without what tells parts from a batch: statistics of its images, and dropout."""
    found: list[list[torch.Tensor]] = []

    def note(optimizer: torch.optim.Optimizer, rate: float) -> None:
        parameters = [each for group in optimizer.param_groups for each in group["params"]]
        found.append([each.grad.clone() for each in parameters if each.grad is not None])
        raise Stop

    monkeypatch.setattr(loop, "set_rate", note)
    monkeypatch.setattr(losses_of_networks, "DROPOUT", 0.0)
    monkeypatch.setattr(torch.nn.BatchNorm2d, "train", lambda norm, mode: Module.train(norm, False))
    for accumulate in (1, 3):
        with pytest.raises(Stop):
            train(tmp_path / str(accumulate), method=method, epochs=6, accumulate=accumulate)
    whole, parts = found
    assert any(bool(gradient.any()) for gradient in whole)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(other, one, atol=1e-6, rtol=1e-4)


def test_states_of_before_are_of_whole_batches(unbroken: TrainedSupernet) -> None:
    about = {name: value for name, value in unbroken.about.items() if name != "accumulate"}
    known = {field.name: unbroken.about[field.name] for field in fields(Settings)}
    Settings(**known).require_same(about, "state.pth")
    with pytest.raises(UsageError, match="with accumulate 1, not 2"):
        Settings(**{**known, "accumulate": 2}).require_same(about, "state.pth")


def test_a_finished_training_is_not_trained_again(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(tmp_path)
    written = tmp_path / "first.pth"
    first.path.rename(written)
    monkeypatch.setattr(Training, "run", lambda self: pytest.fail("it trains again"))
    notes: list[str] = []
    again = train(tmp_path, on_note=notes.append)
    assert notes == [f"this training is finished: {first.path}"]
    assert again.to_json() == first.to_json()
    assert_same_end(again, replace(first, path=written))


# what is wrong


def message(error: type[Exception], train: Train, output: Path, **options: Any) -> str:
    with pytest.raises(error) as caught:
        train(output, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_loss_that_is_no_number(train: Train, unbroken: TrainedSupernet, tmp_path: Path) -> None:
    says = message(TrainingError, train, tmp_path / "new", learning_rate=1e30)
    assert "is not a finite number in epoch 1, step 2: try again with a --learning-rate" in says
    assert "nothing was kept" in says
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(Stop):
        train(tmp_path, on_step=stop_at(4))
    state = (tmp_path / "state.pth").read_bytes()
    says = message(TrainingError, train, tmp_path, learning_rate=1e30)
    assert f"in epoch 2, step 2: try again with a --learning-rate lower than 1e+30; {tmp_path}" in (
        says
    )
    assert (tmp_path / "state.pth").read_bytes() == state
    assert_same_end(train(tmp_path), unbroken)  # with the learning rate of before


def test_a_full_disk(train: Train, unbroken: TrainedSupernet, tmp_path: Path) -> None:
    """The old checkpoint is whole; when there is room again training goes on from it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(text: str) -> None:
        if text.startswith("epoch 2"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))

    try:
        says = message(CheckpointError, train, tmp_path, on_note=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert says == f"cannot write {tmp_path / 'state.pth'}: File too large"
    assert [each.name for each in tmp_path.iterdir()] == ["state.pth"]
    notes: list[str] = []
    assert_same_end(train(tmp_path, on_note=notes.append), unbroken)
    assert notes[0] == "going on at epoch 2, step 1"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seed": 1}, "is of a training with seed 0, not 1"),
        ({"batch": 20}, "is of a training with batch 24, not 20"),
        ({"epochs": 4}, "is of a training with epochs 3, not 4"),
        ({"augmentation": "none"}, "with augmentation full, not none"),
        ({"precision": "bf16"}, "is of a training with precision fp32, not bf16"),
    ],
)
def test_another_training_s_folder(
    options: dict[str, Any], says: str, train: Train, unbroken: TrainedSupernet
) -> None:
    folder = unbroken.path.parent
    assert says in message(UsageError, train, folder, **options)


def test_as_many_images_of_other_pixels(unbroken: TrainedSupernet, tmp_path: Path) -> None:
    other = write_idx(tmp_path / "images", 80, classes=4, size=16)
    path = other / "train-images-idx3-ubyte"
    head, pixels = path.read_bytes()[:16], path.read_bytes()[16:]
    path.write_bytes(head + pixels[::-1])
    with pytest.raises(UsageError, match="with data 72 images, digest .*, not 72 images, digest"):
        train_supernet(SPACE, other, unbroken.path.parent, **OPTIONS)


def test_as_many_epochs_as_one_likes(train: Train, tmp_path: Path) -> None:
    """The work ahead is reckoned, not listed."""
    expected: list[int] = []

    def stop(done: int, steps: int, eta_seconds: float) -> None:
        expected.append(steps)
        raise Stop

    with pytest.raises(Stop):
        train(tmp_path, epochs=10**9, on_step=stop)
    assert expected == [3 * 10**9]


def test_other_images(unbroken: TrainedSupernet, tmp_path: Path) -> None:
    other = write_idx(tmp_path / "images", 84, classes=4, size=16)
    with pytest.raises(UsageError, match="with data 72 images, digest .*, not 76 images, digest"):
        train_supernet(SPACE, other, unbroken.path.parent, **OPTIONS)


def test_a_damaged_state(train: Train, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        train(tmp_path, on_step=stop_at(4))
    path = tmp_path / "state.pth"
    whole = path.read_bytes()
    for data in (whole[:-200], whole[: len(whole) // 2]):
        path.write_bytes(data)
        assert "is no state of a training, or it is damaged" in message(
            CheckpointError, train, tmp_path
        )
    torch.save({"lutra_training": 1}, path)
    assert "lacks parts" in message(CheckpointError, train, tmp_path)
    torch.save({"lutra_training": 2}, path)
    assert "that this lutra can read" in message(CheckpointError, train, tmp_path)
    path.write_text("my notes")
    assert "is not written over it" in message(UsageError, train, tmp_path)


def test_a_state_of_other_weights(train: Train, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        train(tmp_path, on_step=stop_at(4))
    path = tmp_path / "state.pth"
    document = torch.load(path, weights_only=True)
    del document["weights"]["first_conv.conv.weight"]
    torch.save(document, path)
    assert "does not hold what a training of this space needs" in message(
        CheckpointError, train, tmp_path
    )


def test_two_trainings_into_one_folder(train: Train, tmp_path: Path) -> None:
    def also(done: int, expected: int, eta_seconds: float) -> None:
        says = message(TrainingError, train, tmp_path)
        assert "is being trained into by this very run" in says
        raise Stop

    with pytest.raises(Stop):
        train(tmp_path, on_step=also)


@pytest.mark.parametrize(
    ("space", "name"),
    [
        (FITTING.replace("classes=4/", ""), FITTING),
        (FITTING.replace("channels=1/", ""), FITTING),
        (FITTING.replace("classes=4", "classes=7"), FITTING),
    ],
)
def test_images_that_do_not_fit(space: str, name: str, images: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"of this family that is --space {name}$"):
        train_supernet(space, images, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_validation_images_that_do_not_fit(tmp_path: Path) -> None:
    classes = ("a", "b", "c", "d")
    write_images(tmp_path / "images" / "train", classes, 4, grey=True)
    write_images(tmp_path / "images" / "val", classes, 2)
    with pytest.raises(DataError, match="its images have 3 channels"):
        train_supernet(SPACE, tmp_path / "images", tmp_path / "out", batch=4)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch": 100}, "72 images for training are fewer than the 100 of a step"),
        ({"batch": 1}, "a batch of 1 images is too small"),
        ({"accumulate": 0}, "a batch in 0 parts: 1 at least"),
        ({"accumulate": 5}, "24 images of a step do not divide into 5 parts"),
        ({"accumulate": 24}, "24 images of a step in 24 parts are too few to normalise over"),
        ({"seed": -1}, "seed -1 must not be negative"),
        ({"learning_rate": 0.0}, "a learning rate of 0.0 must be above zero"),
        ({"learning_rate": float("nan")}, "a learning rate of nan must be above zero"),
        ({"precision": "int8"}, "unknown precision 'int8'; known: fp32, bf16, fp16"),
        ({"augmentation": "some"}, "unknown augmentation 'some'; known: full, unmirrored, none"),
        ({"device": "tpu"}, "cannot train on device 'tpu'; write cpu or cuda:0"),
        ({"device": "cuda:77"}, "there is no cuda:77"),
        ({"threads": 0}, "0 threads are too few"),
        ({"workers": -1}, "-1 workers are too few"),
    ],
)
def test_what_cannot_be_asked_for(
    options: dict[str, Any], says: str, train: Train, tmp_path: Path
) -> None:
    error = DataError if "fewer" in says else UsageError
    assert says in message(error, train, tmp_path / "out", **options)


def test_an_output_that_cannot_be(train: Train, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot make the folder" in message(UsageError, train, tmp_path / "file")
    (tmp_path / "supernet.pth").write_text("my notes")
    assert "is not written over it" in message(UsageError, train, tmp_path)


# logs


def test_event_files(train: Train, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained = train(tmp_path / "out", log_folder=tmp_path / "log")
    events = EventAccumulator(str(tmp_path / "log"))
    events.Reload()
    logged = events.Scalars("loss")
    assert [event.step for event in logged] == [3, 6, 9]
    assert [event.value for event in logged] == pytest.approx(losses(trained))
    assert events.Scalars("learning_rate")[-1].value < events.Scalars("learning_rate")[0].value


def test_event_files_need_a_package(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    says = message(UsageError, train, tmp_path, log_folder=tmp_path / "log")
    assert "pip install 'lutra[tensorboard]'" in says
