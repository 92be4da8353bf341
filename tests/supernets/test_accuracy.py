"""Accuracy with inherited weights: the same as done by hand, and a file of it that goes on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lutra.devices.fake import FakeDevice, FakeScript
from lutra.errors import DataError, TableError, UsageError
from lutra.predictors.accuracy.samples import read_samples
from lutra.predictors.efficiency.costs import macs_cost
from lutra.profiler.profile import profile
from lutra.spaces import get_space
from lutra.supernets.accuracy.inherited import InheritedAccuracy
from lutra.supernets.accuracy.kept_images import KeptImages
from lutra.supernets.accuracy.sampling import architectures, sample_accuracy
from lutra.supernets.checkpoints.checkpoint import save_supernet
from lutra.supernets.data.base import shuffled
from lutra.supernets.data.loading import load_images
from lutra.supernets.elastic.supernet import Supernet
from tests.supernets.small_data import write_small_data
from tests.supernets.test_supernet import MBV3, RESNET, disturbed

W10 = get_space("ofa-mbv3-w1.0")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_data(tmp_path_factory.mktemp("data") / "stripes")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    supernet = Supernet(MBV3)
    disturbed(supernet)
    path = tmp_path_factory.mktemp("supernet") / "s.pth"
    save_supernet(supernet, path, {})
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of the scripted device at two of the three resolutions."""
    path = tmp_path_factory.mktemp("table") / "fake.lut"
    profile(FakeDevice(FakeScript()), MBV3, path, resolutions=[20, 28], networks=0)
    return path


def test_the_same_as_by_hand(data: Path, checkpoint: Path) -> None:
    accuracy = InheritedAccuracy.read(checkpoint, data, calibration_images=50)
    train, validation = load_images(data, "train"), load_images(data, "validation")
    architecture = accuracy.space.decode(accuracy.space.sample(1, np.random.default_rng(3))[0])
    subnet = accuracy.networks.subnet(architecture)
    chosen = np.sort(shuffled(len(train))[:50])
    subnet.train()
    for norm in subnet.norms.values():
        assert isinstance(norm, torch.nn.BatchNorm2d)
        norm.momentum = 1.0  # one batch: its statistics
    with torch.no_grad():
        subnet(train.batch(chosen, architecture.r)[0])
        answers = subnet.eval()(validation.batch(np.arange(12), architecture.r)[0]).argmax(1)
    found = accuracy.of(architecture)
    assert found.count == len(validation) == 12
    assert found.correct == int((answers.numpy() == validation.labels).sum())
    assert accuracy.of(architecture) == found
    assert accuracy.source.calibration_images == 50
    assert accuracy.source.data == "stripes"


def test_fewer_images(data: Path, checkpoint: Path) -> None:
    accuracy = InheritedAccuracy.read(checkpoint, data, images=5, calibration_images=7)
    assert accuracy.of(Supernet(MBV3).smallest()).count == 5
    for images, calibration_images in ((0, 1), (1, 0)):
        with pytest.raises(DataError, match="at least one image"):
            InheritedAccuracy.read(
                checkpoint, data, images=images, calibration_images=calibration_images
            )


def test_images_that_do_not_fit(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.pth"
    save_supernet(Supernet(MBV3.replace("classes=10", "classes=7")), path, {})
    with pytest.raises(DataError, match="it has 10 classes; networks of .* know 7"):
        InheritedAccuracy.read(path, data)
    save_supernet(Supernet(RESNET.replace("channels=1/", "")), path, {})
    with pytest.raises(DataError, match="its images have 1 channels; networks of .* take 3"):
        InheritedAccuracy.read(path, data)


@pytest.mark.parametrize("most_bytes", [0, 4 * 9 * 20**2, 4 * 9 * 28**2 + 1, 1 << 30])
def test_kept_images_are_the_set_s(data: Path, most_bytes: int) -> None:
    images = load_images(data, "train")
    chosen = np.array([3, 17, 4, 50, 51, 52, 7, 8, 9])
    kept = KeptImages(images, chosen, most_bytes)
    assert len(kept) == len(chosen)
    for resolution in (20, 28, 20, 24, 24):
        for indices in (np.arange(9), np.arange(2, 5), np.array([5, 1, 1]), np.array([], int)):
            found, labels = kept.batch(indices, resolution)
            expected, known = images.batch(chosen[indices], resolution)
            assert torch.equal(found, expected)
            assert torch.equal(labels, known)
        assert sum(map(kept._size, kept._kept)) <= most_bytes
    augmented = kept.batch(np.arange(9), 28, np.random.default_rng(0))[0]
    assert not torch.equal(augmented, kept.batch(np.arange(9), 28)[0])


def test_images_are_made_ready_once(
    data: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracy = InheritedAccuracy.read(checkpoint, data, calibration_images=20)
    accuracy.of(Supernet(MBV3).largest())

    def again(*_: object) -> None:
        raise AssertionError("made ready again")

    monkeypatch.setattr(type(accuracy._train._images), "pixels", again)
    accuracy.of(Supernet(MBV3).largest())


def test_sampling_goes_on_where_it_was_killed(
    data: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracy = InheritedAccuracy.read(checkpoint, data, calibration_images=20)
    whole, path = tmp_path / "whole.jsonl", tmp_path / "s.jsonl"
    told: list[tuple[int, int, float]] = []
    assert sample_accuracy(
        accuracy, whole, count=6, on_progress=lambda *values: told.append(values)
    ) == (6, 6)
    assert [done for done, _, _ in told] == list(range(7))
    assert told[-1][1:] == (6, 0.0)
    measure, calls = accuracy.of, iter(range(100))

    def dies(architecture: object) -> object:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return measure(architecture)  # type: ignore[arg-type]

    monkeypatch.setattr(accuracy, "of", dies)
    with pytest.raises(KeyboardInterrupt):
        sample_accuracy(accuracy, path, count=6)
    path.write_bytes(path.read_bytes() + b'{"ks": [3, 3')
    assert len(read_samples(path).rows) == 3
    assert sample_accuracy(accuracy, path, count=6) == (6, 3)
    assert path.read_bytes() == whole.read_bytes()
    assert sample_accuracy(accuracy, path, count=6) == (6, 0)
    assert sample_accuracy(accuracy, path, count=8) == (8, 2)
    assert path.read_bytes().startswith(whole.read_bytes())


@pytest.mark.parametrize("name", [MBV3, RESNET, "ofa-mbv3-w1.0"])
def test_architectures_are_spread_and_seeded(name: str) -> None:
    space = get_space(name)
    rows = architectures(space, 100, seed=4)
    np.testing.assert_array_equal(rows, architectures(space, 120, seed=4)[:100])
    assert not np.array_equal(rows, architectures(space, 100, seed=5))
    np.testing.assert_array_equal(rows, space.canonical(rows))
    assert len(np.unique(rows, axis=0)) == 100
    macs = macs_cost(space).of(rows)
    assert {macs.argmin(), macs.argmax()} == {0, 1}
    per_tenth = np.histogram(macs, 10)[0]
    assert per_tenth.min() >= 7
    assert per_tenth.max() <= 13
    assert set(rows[:, -1]) == set(range(len(space.resolutions)))


def test_spread_over_a_table_s_latency(table: Path) -> None:
    space = get_space(MBV3)
    rows = architectures(space, 60, table=table)
    assert {space.resolutions[choice] for choice in rows[:, -1]} == {20, 28}
    only = architectures(space, 60, table=table, resolutions=[28])
    assert {space.resolutions[choice] for choice in only[:, -1]} == {28}
    with pytest.raises(UsageError, match="was not profiled at 24; it knows 20, 28"):
        architectures(space, 60, table=table, resolutions=[24, 28])
    with pytest.raises(UsageError, match="resolution 21 is not in"):
        architectures(space, 60, resolutions=[21])
    with pytest.raises(TableError):
        architectures(W10, 60, table=table)
