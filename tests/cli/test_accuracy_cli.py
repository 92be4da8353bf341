"""From a supernet to a search by its own accuracy, on the command line."""

import contextlib
import io
import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch

from lutra.devices.fake import FakeDevice, FakeScript
from lutra.predictors.accuracy.mlp_fitting import MlpLearner
from lutra.profiler.profile import profile
from lutra.supernets.checkpoints.checkpoint import save_supernet
from lutra.supernets.elastic.supernet import Supernet
from tests.cli.test_cli import Capture, assert_one_line, call, call_json
from tests.machines import ONE_ROUND
from tests.supernets.file_server import Served, serving
from tests.supernets.small_data import write_small_data
from tests.supernets.test_supernet import MBV3, PROXYLESS, disturbed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supernet, images, a table; nothing is written here."""
    folder = tmp_path_factory.mktemp("accuracy")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        supernet = Supernet(MBV3)
    disturbed(supernet)
    save_supernet(supernet, folder / "s.pth", {})
    write_small_data(folder / "stripes", train=400)
    device, table, every = FakeDevice(FakeScript()), folder / "fake.lut", [20, 24, 28]
    profile(device, MBV3, table, resolutions=every, networks=0, protocol=ONE_ROUND)
    return folder


def sampling(folder: Path, output: Path) -> list[object]:
    """The command that measures, with few images."""
    return [
        *("accuracy", "sample", folder / "s.pth", "--data", folder / "stripes"),
        *("--calibration-images", 10, "-o", output),
    ]


@pytest.fixture
def sample(folder: Path, tmp_path: Path) -> list[object]:
    """That command, into a file of the test's own."""
    return sampling(folder, tmp_path / "s.jsonl")


@pytest.fixture(scope="module")
def sampled_once(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it measures of 24 subnets of a table; copy it, do not write to it."""
    path = tmp_path_factory.mktemp("sampled") / "s.jsonl"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        command = [*sampling(folder, path), "--count", 24, "--table", folder / "fake.lut"]
        assert call(*command, "--json") == 0
    said = json.loads(printed.getvalue())
    assert said == {"output": str(path), "subnets": 24, "measured": 24}
    return path


def test_sample_fit_search_evaluate(
    folder: Path, tmp_path: Path, sample: list[object], sampled_once: Path, capsys: Capture
) -> None:
    shutil.copy(sampled_once, tmp_path)
    samples, model, result = (tmp_path / name for name in ("s.jsonl", "a.json", "result.json"))
    table = folder / "fake.lut"
    again = call_json(capsys, *sample, "--count", 24, "--table", table)
    assert again == {"output": str(samples), "subnets": 24, "measured": 0}
    fitted = call_json(
        capsys, *("accuracy", "fit", samples, "-o", model, "--model", "additive", "--folds", 2)
    )
    assert fitted["model"] == "additive"
    assert set(fitted["held_out"]["additive"]) >= {"r2", "rmse_percent", "kendall_tau"}
    search = [
        *("search", table, "--max-latency", "1s", "--algorithm", "random", "-o", result),
        *("--accuracy", model, "--evaluate", 2, "--checkpoint", folder / "s.pth"),
        *("--data", folder / "stripes", "--calibration-images", 10),
    ]
    found = call_json(capsys, *search)
    assert json.loads(result.read_text()) == found
    measured = [item.get("measured_accuracy") for item in found["candidates"]]
    assert measured[0] >= measured[1]
    assert set(measured[2:]) == {None}
    assert found["accuracy_source"]["quality"]["subnets"] == 24
    assert call(*search) == 0
    printed = capsys.readouterr()
    assert "measured %" in printed.out.splitlines()[0]
    assert "ordered by their accuracy on 40 validation images" in " ".join(printed.err.split())


@pytest.mark.slow
def test_people_get_tables(
    tmp_path: Path, sample: list[object], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = partial(MlpLearner, hidden=8, steps=20)
    monkeypatch.setattr("lutra.predictors.accuracy.fitting.MlpLearner", small)
    assert call(*sample, "--count", 20, "--resolutions", "20,28") == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == str(tmp_path / "s.jsonl")
    assert "next: lutra accuracy fit" in printed.err
    assert call("accuracy", "fit", tmp_path / "s.jsonl", "-o", tmp_path / "a", "--folds", 2) == 0
    printed = capsys.readouterr()
    assert "kendall_tau" in printed.out
    assert "OFA's MLP" in printed.out


def test_mistakes_are_one_line(
    folder: Path, tmp_path: Path, sample: list[object], sampled_once: Path, capsys: Capture
) -> None:
    capsys.readouterr()
    supernet, data = folder / "s.pth", folder / "stripes"
    search = ["search", folder / "fake.lut", "--max-latency", "1s"]
    model = tmp_path / "a.json"
    model.write_text("my notes")
    shutil.copy(sampled_once, tmp_path)
    for arguments, code, says in (
        ([*sample[:2], supernet, "--data", tmp_path, *sample[5:]], 1, "idx files"),
        ([*sample, "--resolutions", "30"], 2, "resolution 30 is not in"),
        ([*sample, "--space", PROXYLESS], 1, "is a supernet of"),
        ([*sample, "--images", 3], 1, "another number of validation images (40 before, now 3)"),
        ([*sample[:-1], tmp_path / "no" / "s.jsonl"], 2, "there is no folder"),
        ([*sample[:-1], supernet], 2, "holds no measured subnets"),
        (["accuracy", "fit", tmp_path / "nothing", "-o", tmp_path / "b"], 1, "cannot read"),
        (
            ["accuracy", "fit", supernet, "-o", tmp_path / "b"],
            1,
            "is a supernet's weights, not what",
        ),
        (["accuracy", "fit", tmp_path / "s.jsonl", "-o", model], 2, "is not written over it"),
        ([*search, "--evaluate", 2], 2, "--evaluate needs --checkpoint"),
        ([*search, "--checkpoint", supernet], 2, "go with --evaluate"),
        (
            [*search, "--evaluate", 1, "--checkpoint", model, "--data", data],
            1,
            "is no PyTorch file",
        ),
    ):
        assert call(*arguments) == code, arguments
        assert_one_line(capsys, says)
    assert model.read_text() == "my notes"


def test_fetch(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    content = (folder / "s.pth").read_bytes()
    path = tmp_path / "fetched.pth"
    with serving(Served(content, cut_after=1000)) as served:
        fetch = ["supernet", "fetch", MBV3, "--url", served.address, "-o", path]
        assert call(*fetch) == 1
        assert_one_line(capsys, "cut off after 1000 of", "run the same command again")
        served.cut_after = None
        fetched = call_json(capsys, *fetch)
        assert fetched["resumed_bytes"] == 1000
        assert path.read_bytes() == content
        assert call(*fetch) == 0
        assert fetched["sha256"] in capsys.readouterr().err
        assert call(*fetch, "--sha256", "ab" * 32) == 1
        assert_one_line(capsys, "holds another file than was asked for")
        assert call("supernet", "fetch", MBV3, "--url", served.address) == 2
        assert_one_line(capsys, "name the file to write with -o")
    assert call("supernet", "fetch", "ofa-mbv3-w9.9") == 2
    assert_one_line(capsys, "publish no supernet")
    assert call("supernet", "fetch", MBV3, "--url", "http://example.com/a", "-o", path) == 2
    assert_one_line(capsys, "is no https address")
