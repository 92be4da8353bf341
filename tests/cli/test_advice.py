"""What lutra says to do next is what helps, with the names that it knows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import lutra
from lutra.cli.main import run
from lutra.devices import android, cuda
from lutra.devices.fake import FakeScript
from lutra.emitters.emission import Emission
from lutra.errors import PermanentDeviceError, UsageError
from lutra.ops import Conv, Shape
from tests.toys import Toy, install_toys

pytestmark = pytest.mark.usefixtures("hollow")

Capture = pytest.CaptureFixture[str]


def call(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


def next_line(capsys: Capture) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("next: ")]
    return str(line)


@pytest.fixture
def toys(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """``toy:wild`` repeats nothing, ``toy:hole`` cannot run one of its models."""
    random = np.random.default_rng(0)
    wild = FakeScript(latency_ms=lambda path: float(random.uniform(1.0, 2.0)), keeps_models=True)
    hole = FakeScript(failures={3: "load"})
    folder = tmp_path_factory.mktemp("toys")
    install_toys(folder, monkeypatch, wild=Toy(script=wild), hole=Toy(script=hole))


@pytest.fixture
def models_path(tmp_path: Path) -> Path:
    """A table of one model file."""
    model = tmp_path / "conv.onnx"
    model.write_bytes(Emission().builder(lambda: Conv(Shape(8, 8, 4), 8).graph)())
    path = tmp_path / "models.lut"
    assert call("profile", "fake", "--model", model, "-o", path) == 0
    return path


# after a profile


def test_a_complete_table_is_calibrated_or_validated_next(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "fake.lut"
    assert call("profile", "fake", "-o", path, "--networks", "0") == 0
    assert next_line(capsys) == f"next: lutra calibrate {path}"
    assert call("profile", "fake", "-o", path, "--networks", "4") == 0
    assert next_line(capsys) == f"next: lutra validate {path}"


def test_a_table_that_lacks_visits_is_measured_on(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "fake.lut"
    assert call("profile", "fake", "-o", path, "--budget", "0.1ms") == 3
    line = next_line(capsys)
    assert "the same command again" in line
    assert "within 0.0001 s" in line
    assert call("profile", "fake", "-o", path, "--budget", "0.1ms", "--again", "all") == 3
    assert next_line(capsys).startswith("next: the same without --again: ")


@pytest.mark.usefixtures("toys")
def test_a_table_without_a_stable_row_wants_a_quieter_machine(
    tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "wild.lut"
    assert call("profile", "toy:wild", "-o", path, "--networks", "0") == 0
    line = next_line(capsys)
    assert "lutra doctor toy:wild" in line
    assert "--again all" in line


@pytest.mark.usefixtures("toys")
def test_a_table_with_a_failure_says_where_to_look(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "hole.lut"
    assert call("profile", "toy:hole", "-o", path, "--networks", "0") == 3
    assert next_line(capsys).startswith(f"next: lutra table show {path} says why 1")


@pytest.mark.usefixtures("toys")
def test_each_of_several_tables_has_its_own_next_step(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "tables"
    arguments = ["toy:a", "toy:hole", "-o", f"{folder}/", "--networks", "0"]
    assert call("profile", *arguments) == 3
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("next: ")]
    assert [line.split()[2] for line in lines] == ["calibrate", "table"]


# a table of models


def test_a_table_of_models_is_shown(models_path: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert call("table", "show", models_path) == 0
    assert "conv.onnx@sha256:" in capsys.readouterr().out
    assert call("table", "show", models_path, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 1
    assert call("table", "show", models_path, "--category", "op") == 0
    assert "holds no rows of the category op" in capsys.readouterr().err


def test_a_table_of_models_cannot_be_searched(models_path: Path, capsys: Capture) -> None:
    for command in (["calibrate"], ["search", "--max-latency", "5ms"]):
        capsys.readouterr()
        assert call(command[0], models_path, *command[1:]) == 1
        assert "holds no ops of a search space, only models" in capsys.readouterr().err


def test_models_of_two_formats_want_two_tables(tmp_path: Path, capsys: Capture) -> None:
    files = []
    for suffix in ("onnx", "tflite"):
        files.append(tmp_path / f"conv.{suffix}")
        files[-1].write_bytes(Emission(suffix).builder(lambda: Conv(Shape(8, 8, 4), 8).graph)())
    options = [word for file in files for word in ("--model", file)]
    assert call("profile", "fake", *options, "-o", tmp_path / "x.lut") == 2
    errors = capsys.readouterr().err
    assert "into a table each" in errors
    assert "--runtime" not in errors


def test_an_empty_file_is_called_empty(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "empty.lut"
    path.touch()
    assert call("table", "show", path) == 1
    assert "empty file" in capsys.readouterr().err


# another target


def test_where_there_is_no_output_file_none_is_spoken_of(
    table_path: Path, toys: None, capsys: Capture
) -> None:
    assert call("calibrate", table_path, "--device", "cpu") == 1
    errors = capsys.readouterr().err
    assert "another target" in errors
    assert "-o file" not in errors
    assert call("profile", "fake", "--batch", "2", "-o", table_path) == 1
    assert "Use another -o file" in capsys.readouterr().err


# after a search


def test_a_search_names_the_device_to_verify_on(
    table_path: Path, tmp_path: Path, capsys: Capture
) -> None:
    result = tmp_path / "result.json"
    search = ["search", table_path, "--algorithm", "random", "-o", result]
    assert call(*search, "--max-latency", "20ms") == 0
    assert next_line(capsys) == f"next: lutra verify {result} --device fake"


def test_rows_of_a_search_can_be_told_apart(table_path: Path, capsys: Capture) -> None:
    assert call("search", table_path, "--algorithm", "random", "--max-latency", "20ms") == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split()[-3:] == ["ks", "e", "d"]
    assert len({row.split("  ", 7)[-1] for row in rows}) == len(rows)


def test_a_limit_that_does_not_bind_is_said_to(table_path: Path, capsys: Capture) -> None:
    def notes(*limits: str) -> list[str]:
        """What is said beside how good the answer is."""
        assert call("search", table_path, "--algorithm", "random", "--json", *limits) == 0
        *others, how_good = json.loads(capsys.readouterr().out)["notes"]
        assert "nothing proves" in how_good
        return list(map(str, others))

    (said,) = notes("--max-latency", "10s", "--max-flops", "250M")
    assert said.startswith("the limit of 10000 ms does not bind: no subnet exceeds ")
    slowest = said.split()[-2]
    assert float(slowest) == pytest.approx(
        lutra.EfficiencyPredictor(table_path).latency.dearest([224])[0], rel=1e-4
    )
    assert notes("--max-latency", "20ms") == []
    (said,) = notes("--max-latency", "20ms", "--max-flops", "9G")
    assert "MACs does not bind" in said


# devices that are not there


@pytest.mark.parametrize(
    ("attached", "error"),
    [({}, PermanentDeviceError), ({"A": "device", "B": "device"}, UsageError)],
)
def test_without_a_phone_the_command_is_not_wrong(
    attached: dict[str, str], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(android, "attached", lambda: attached)
    with pytest.raises(error):
        android.android_device("")


@pytest.mark.parametrize(
    ("found", "error"),
    [([], PermanentDeviceError), ([{"index": 0}, {"index": 1}], UsageError)],
)
def test_without_a_gpu_the_command_is_not_wrong(
    found: list[dict[str, int]], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "list_gpus", lambda: found)
    with pytest.raises(error):
        cuda.cuda_device("")


# cores


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        ("2", "core 1"),
        ("1", "core 0"),
        ("f1", "cores 0, 4-7"),
        ("any", "any core"),
        ("3", "cores 0-1"),
    ],
)
def test_cores_are_named_not_masked(mask: str, text: str) -> None:
    from lutra.devices.remote.cores import cores_text

    assert cores_text(mask) == text
