"""`lutra quickstart` for a space whose trained weights come with lutra."""

import gzip
from pathlib import Path

import numpy as np
import onnx
import pytest

from lutra.cli.quickstart import PLANS
from lutra.supernets.checkpoints.checkpoint import load_supernet
from lutra.supernets.checkpoints.shipped import shipped_checkpoint
from lutra.supernets.data.loading import load_images
from lutra.supernets.evaluation import top1, tune_statistics
from tests.cli.test_cli import Capture, call, call_json
from tests.cli.test_cuda_cli import error_line

FASHION = "ofa-mbv3-fashion"


def idx_folder(folder: Path, classes: int = 10, count: int = 400) -> Path:
    """Small grey images of chance in MNIST's form."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for part in ("train", "t10k"):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % classes).astype(np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            with gzip.open(folder / f"{part}-{name}-ubyte.gz", "wb") as file:
                file.write(head + array.tobytes())
    return folder


def test_the_shipped_supernet_is_whole_and_small() -> None:
    path = shipped_checkpoint(FASHION)
    assert path is not None
    assert path.stat().st_size < 5_000_000
    assert load_supernet(path).space.name == FASHION
    assert shipped_checkpoint("ofa-mbv3-w1.0") is None


def test_what_is_wrong_with_the_images_is_said_before_anything_is_measured(
    tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    few = idx_folder(tmp_path / "few", classes=7)
    cases: list[tuple[list[object], str, int]] = [
        (["--space", FASHION, "--data", tmp_path / "none"], "there is no folder", 1),
        (["--space", FASHION, "--data", few], "it has 7 classes", 1),
        (["--data", few], "no trained weights for ofa-mbv3-w1.0", 2),
        (["--fine-tune", 1], "no trained weights for ofa-mbv3-w1.0", 2),
    ]
    for arguments, says, code in cases:
        assert call("quickstart", "--device", "fake", "-o", out, *arguments) == code
        assert says in error_line(capsys)
        assert not out.exists()


@pytest.mark.slow
@pytest.mark.timed
@pytest.mark.timeout(900)
def test_the_whole_promise(tmp_path: Path, capsys: Capture) -> None:
    """On this CPU: from nothing to files with trained weights, measured in time and accuracy."""
    plan = PLANS[FASHION]
    assert plan.data is not None
    known = plan.data.is_dir()
    data = plan.data if known else idx_folder(tmp_path / "images")
    done = call_json(
        capsys, "quickstart", "--space", FASHION, "--data", data, "-o", tmp_path / "out"
    )
    fp32, int8 = done["files"]
    assert (fp32["precision"], int8["precision"]) == ("fp32", "int8")
    for file in (fp32, int8):
        assert 0 < file["ci_low_ms"] <= file["latency_ms"] <= file["ci_high_ms"]
        notes = {item.key: item.value for item in onnx.load(file["path"]).metadata_props}
        assert notes["weights"].startswith("trained: ofa-mbv3-fashion.pth, SHA-256 ")
    found = done["search"]["architecture"]
    checkpoint = shipped_checkpoint(FASHION)
    assert checkpoint is not None
    supernet = load_supernet(checkpoint)
    architecture = supernet.space.parse(found)
    subnet = supernet.subnet(architecture)
    tune_statistics(subnet, load_images(data, "train"), architecture.r)
    module = top1(subnet, load_images(data, "test"), architecture.r).percent
    assert fp32["top1"] == pytest.approx(module, abs=0.5)
    if known:
        assert int8["top1"] == pytest.approx(module, abs=1.5)
        assert fp32["top1"] > 75
