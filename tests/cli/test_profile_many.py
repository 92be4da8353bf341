"""`lutra profile` with several devices: a table each, one error line each, one exit code."""

from __future__ import annotations

import _thread
import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from lutra.cli.main import run
from lutra.devices.fake import FakeScript, latency_from_size
from lutra.emitters.emission import Emission
from lutra.ops import Conv, Shape
from lutra.tables import LatencyTable
from tests.toys import Toy, install_toys

pytestmark = pytest.mark.usefixtures("hollow")

Capture = pytest.CaptureFixture[str]
Install = Callable[..., None]
OPS = 96


@pytest.fixture
def toys(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs toy devices."""
    return lambda **toys: install_toys(tmp_path_factory.mktemp("toys"), monkeypatch, **toys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the tables go; it is not there yet."""
    return tmp_path / "tables"


def profile(*arguments: object) -> int:
    """Ops only, or models: what is tested is how several devices go along."""
    only = [] if "--model" in arguments else ["--networks", "0"]
    return run(["profile", *(str(argument) for argument in arguments), *only])


def rows(table: Path) -> dict[str, str]:
    """Key -> status of the table's ops."""
    with LatencyTable.open(table) as opened:
        return {row.key: row.status for row in opened.rows("op")}


def visits(table: Path) -> int:
    with LatencyTable.open(table) as opened:
        return sum(len(found) for found in opened.all_visits("op").values())


def documents(capsys: Capture) -> list[dict[str, Any]]:
    devices = json.loads(capsys.readouterr().out)["devices"]
    assert isinstance(devices, list)
    return devices


def test_one_of_three_dies_and_a_second_run_resumes(
    toys: Install, folder: Path, capsys: Capture
) -> None:
    dying = Toy(dies_after=150)
    toys(b=dying)
    arguments = ["toy:a", "toy:b", "toy:c", "-o", f"{folder}/"]
    assert profile(*arguments) == 1
    captured = capsys.readouterr()
    (error,) = [line for line in captured.err.splitlines() if line.startswith("error:")]
    assert error == "error: toy:b: it does not answer"
    assert [line.split()[0] for line in captured.out.splitlines()] == ["spec", "toy:a", "toy:c"]
    for name in ("toy_a", "toy_c"):
        assert set(rows(folder / f"{name}.lut").values()) == {"stable"}
        assert len(rows(folder / f"{name}.lut")) == OPS
    kept = visits(folder / "toy_b.lut")
    assert 0 < kept < 150
    dying.dies_after = None
    assert profile(*arguments, "--json") == 0
    others, resumed, more = documents(capsys)
    assert others["visits"] == more["visits"] == 0
    assert resumed["spec"] == "toy:b"
    assert resumed["table"] == str(folder / "toy_b.lut")
    assert resumed["stable"] == OPS
    assert visits(folder / "toy_b.lut") == kept + resumed["visits"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "toy_a.lut",
        "toy_b.lut",
        "toy_c.lut",
    ]


def test_json_has_a_summary_or_an_error_for_each(
    toys: Install, folder: Path, capsys: Capture
) -> None:
    toys(
        gone=Toy(dies_after=0),
        bare=Toy(runtimes=(), advice=("install litert on it", "cool it")),
    )
    assert profile("toy:gone", "toy:a", "toy:bare", "-o", f"{folder}/", "--json") == 1
    gone, good, bare = documents(capsys)
    assert gone == {
        "spec": "toy:gone",
        "table": str(folder / "toy_gone.lut"),
        "error": "it does not answer",
    }
    assert good["stable"] == OPS
    assert "error" not in good
    assert bare["error"] == "toy:bare has no runtime: install litert on it"
    assert not (folder / "toy_bare.lut").exists()


def test_it_says_what_each_runs_on(toys: Install, folder: Path, capsys: Capture) -> None:
    toys(b=Toy(runtimes=("litert", "onnxruntime")))
    assert profile("toy:a", "toy:b", "-o", f"{folder}/", "--budget", "0.0001s") == 3
    errors = capsys.readouterr().err.splitlines()
    assert "toy:a: onnxruntime (scripted, 1 thread, core 0)" in errors
    assert "toy:b: litert (scripted, 1 thread, core 0)" in errors


def test_no_spec_leaves_the_folder_or_reaches_a_shell_or_the_terminal(
    toys: Install, folder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    toys()
    monkeypatch.chdir(tmp_path)
    specs = [
        "toy:two words",
        "toy:'single' \"double\"",
        "toy:;touch pwned;",
        "toy:$(touch pwned)",
        "toy:`touch me`",
        "toy:../../up",
        "toy:/etc/passwd",
        "toy:..",
        "toy:\x1b[31mred\nerror: toy:x: forged",
        "toy:" + "long" * 100,
        "toy:[bold]",
    ]
    assert profile(*specs, "-o", f"{folder}/", "--budget", "0.0001s", "--json") == 3
    captured = capsys.readouterr()
    assert "\x1b" not in captured.err
    assert not [line for line in captured.err.splitlines() if line.startswith("error")]
    devices = json.loads(captured.out)["devices"]
    assert [device["spec"] for device in devices] == specs
    assert {Path(device["table"]).parent for device in devices} == {folder}
    assert sorted(folder.iterdir()) == sorted(Path(device["table"]) for device in devices)
    assert list(tmp_path.iterdir()) == [folder]


USAGE: list[tuple[list[str], str]] = [
    (["toy:a", "toy:b", "toy:a", "-o", "new/"], "toy:a is given twice"),
    (["toy:a b", "toy:a;b", "-o", "new/"], "would share the table toy_a_b.lut"),
    (["toy:a", "toy:b", "-o", "file.lut"], "file.lut is a file"),
    (["toy:a", "toy:b", "-o", "file.lut/"], "is a file"),
    (["toy:a", "-o", "file.lut/"], "is a file"),
    (["toy:a", "toy:b", "-o", "new"], "write -o new/"),
    (["toy:a", "toy:b", "-o", "no/such/"], "there is no folder no"),
    (["toy:a", "toy:b", "-o", ""], "-o names no file"),
    (["toy:a", "toaster:b", "-o", "new/"], "unknown device 'toaster'"),
    (["toy:a", "toy:b", "-o", "new/", "--budget", "10"], "as 10m"),
    (["toy:a", "toy:b", "-o", "new/", "--runtime", "tvm"], "unknown runtime 'tvm'"),
    (["toy:a", "toy:b", "-o", "new/", "--option", "x"], "write NAME=VALUE"),
    (["toy:a", "toy:b", "-o", "new/", "--resolutions", "225"], "resolution 225"),
    (["-o", "new/"], "Missing argument"),
]


@pytest.mark.parametrize(("arguments", "says"), USAGE, ids=[says for _, says in USAGE])
def test_usage_errors_come_before_anything_starts(
    arguments: list[str],
    says: str,
    toys: Install,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toys()
    monkeypatch.chdir(tmp_path)
    Path("file.lut").write_text("mine")
    assert profile(*arguments) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert says in line
    assert captured.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["file.lut"]
    assert Path("file.lut").read_text() == "mine"


def test_one_device_may_have_a_folder_too(toys: Install, folder: Path, capsys: Capture) -> None:
    toys()
    for output in (f"{folder}/", folder):  # the second time it is there
        assert profile("toy:a", "-o", output, "--json") == 0
        document = json.loads(capsys.readouterr().out)
        assert document["table"] == str(folder / "toy_a.lut")
    assert document["visits"] == 0


def test_a_dry_run_of_several_writes_nothing(toys: Install, folder: Path, capsys: Capture) -> None:
    toys()
    arguments = ["toy:a", "toy:b", "-o", f"{folder}/", "--dry-run"]
    assert profile(*arguments, "--json") == 0
    assert [(item["spec"], item["missing"]) for item in documents(capsys)] == [
        ("toy:a", OPS),
        ("toy:b", OPS),
    ]
    assert profile(*arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["toy:a", "96"], ["toy:b", "96"]]
    assert not folder.exists()


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_all_and_keeps_what_there_is(
    toys: Install, folder: Path, capsys: Capture
) -> None:
    asked = 0
    interrupted = threading.Event()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    def latency(model: Path) -> float:
        nonlocal asked
        asked += 1
        if asked == 100:
            _thread.interrupt_main()
            interrupted.wait(10)  # or a quick device is done before the interrupt is noticed
        return latency_from_size(model)

    signal.signal(signal.SIGINT, on_interrupt)

    toys(a=Toy(script=FakeScript(latency_ms=latency)))
    arguments = ["toy:a", "toy:b", "-o", f"{folder}/"]
    assert profile(*arguments) == 130
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "rerun to resume" in captured.err
    assert "error" not in captured.err
    assert sorted(path.name for path in folder.iterdir()) == ["toy_a.lut", "toy_b.lut"]
    kept = visits(folder / "toy_a.lut")
    assert kept > 0
    assert profile(*arguments) == 0
    assert set(rows(folder / "toy_a.lut").values()) == {"stable"}
    assert visits(folder / "toy_a.lut") > kept


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model file."""
    emission = Emission("tflite")
    path = tmp_path / "conv.tflite"
    path.write_bytes(emission.builder(lambda: Conv(Shape(8, 8, 4), 8).graph)())
    return path


def test_model_files_on_several_devices(
    toys: Install, folder: Path, model: Path, capsys: Capture
) -> None:
    """Each device runs the file with what it has of the runtimes that load it."""
    toys(
        b=Toy(runtimes=("onnxruntime", "tflite-runtime")), c=Toy(runtimes=("onnxruntime", "torch"))
    )
    arguments = ["toy:a", "toy:b", "toy:c", "--model", model, "-o", f"{folder}/"]
    assert profile(*arguments, "--json") == 1
    found = {item["spec"]: item for item in documents(capsys)}
    for spec, runtime in {"toy:a": "litert", "toy:b": "tflite-runtime"}.items():
        (row,) = found[spec]["models"]
        assert row["status"] == "stable"
        with LatencyTable.open(Path(found[spec]["table"])) as table:
            assert table.target.runtime == runtime
    assert "toy:c has no runtime that loads .tflite" in found["toy:c"]["error"]
    assert profile(*arguments[:2], *arguments[3:]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["spec", "toy:a", "toy:b"]
    assert profile(*arguments[:2], *arguments[3:], "--dry-run", "--json") == 0
    plans = documents(capsys)
    assert [plan["models"][0]["runtime"] for plan in plans] == ["litert", "tflite-runtime"]


def test_a_bug_has_its_traceback_where_asked_for(
    toys: Install, folder: Path, capsys: Capture
) -> None:
    def latency(model: Path) -> float:
        raise ZeroDivisionError("a bug")

    toys(a=Toy(script=FakeScript(latency_ms=latency)))
    arguments = ["profile", "toy:a", "toy:b", "-o", f"{folder}/", "--budget", "0.0001s"]
    assert run(arguments) in (1, 3)
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    assert run(["-v", *arguments[:-2]]) == 1
    errors = capsys.readouterr().err
    assert "error: toy:a: ZeroDivisionError: a bug" in errors
    assert "Traceback" in errors
