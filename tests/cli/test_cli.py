"""The command line from the outside: data on stdout, one line of error, the right exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
import pytest

from lutra.cli.main import COMMANDS, run
from lutra.cli.output import print_json
from lutra.devices.fake import FakeDevice, FakeScript
from lutra.emitters.emission import Emission
from lutra.ops import Conv, Shape, seeded_weights
from lutra.predictors.accuracy import load_accuracy
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.profiler.profile import profile
from lutra.search.find import half_way_budget_ms
from lutra.search.result import SearchResult
from lutra.tables import LatencyTable
from tests.conftest import SPACE
from tests.toys import Toy, install_toys

pytestmark = pytest.mark.usefixtures("hollow")

Capture = pytest.CaptureFixture[str]
QUICK = ("--preset", "light-nas")  # 300 networks are scored


def call(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


def call_json(capsys: Capture, *arguments: object) -> Any:
    capsys.readouterr()
    assert call(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def assert_one_line(capsys: Capture, *says: str) -> None:
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.strip().splitlines()
    for text in says:
        assert text in line


@pytest.fixture
def no_android(monkeypatch: pytest.MonkeyPatch) -> None:
    """No adb server is asked, let alone started."""
    monkeypatch.setattr("lutra.devices.android.attached", dict)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: Capture) -> None:
    assert call(name, "--help") == 0
    assert "Usage: lutra" in capsys.readouterr().out


@pytest.mark.usefixtures("no_android")
def test_devices(capsys: Capture) -> None:
    (device,) = call_json(capsys, "devices")["devices"]
    assert device["spec"] == "cpu"
    assert device["model"]


def test_spaces(capsys: Capture) -> None:
    spaces = {item["space"]: item for item in call_json(capsys, "spaces")["spaces"]}
    assert spaces[SPACE]["ops"] == 1257
    assert spaces[SPACE]["accuracy"]
    assert spaces["ofa-resnet50d"]["accuracy"] is None


@pytest.mark.timed
def test_doctor_measures_the_noise_floor(capsys: Capture) -> None:
    document = call_json(capsys, "doctor", "cpu")
    assert document["noise_percent"] > 0


def test_dry_run_writes_nothing(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "dry.lut"
    document = call_json(capsys, "profile", "fake", "-o", path, "--dry-run")
    assert document["ops"] == document["missing"] == 96
    assert document["networks"] == 20
    assert not path.exists()


def test_the_whole_job_on_the_scripted_device(
    tmp_path: Path, table_path: Path, capsys: Capture
) -> None:
    assert call_json(capsys, "profile", "fake", "-o", table_path, "--networks", "0")["visits"] == 0
    fitted = call_json(capsys, "calibrate", table_path, "--networks", "6")
    assert fitted["networks"] == 6
    validation = call_json(capsys, "validate", table_path, "--networks", "4")
    assert validation["mape_percent"] < 1.0
    result = tmp_path / "result.json"
    found = call_json(
        capsys, "search", table_path, "--max-latency", "20ms", "-o", result, "--algorithm", "random"
    )
    assert found["predicted_ms"] <= 20.0
    assert found["predicted_low_ms"] < found["predicted_ms"] < found["predicted_high_ms"]
    assert json.loads(result.read_text()) == found
    predicted = call_json(capsys, "predict", table_path, "--arch", result)
    assert predicted["predicted_ms"] == pytest.approx(found["predicted_ms"])
    verified = call_json(capsys, "verify", result, "--device", "fake", "--memory")
    assert verified["measured_memory_bytes"] == 3 * verified["model_file_bytes"]
    assert verified["model_file_bytes"] == pytest.approx(4 * found["params"], rel=0.02)
    assert verified["measured_ms"] == pytest.approx(found["predicted_ms"], rel=0.02)
    assert verified["within_budget"] in (True, False)
    assert json.loads(result.read_text()) == verified
    exported = call_json(capsys, "export", result, "-o", tmp_path / "model.onnx")
    assert "not trained" in exported["weights"]
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    metadata = {item.key: item.value for item in model.metadata_props}
    assert "random" in metadata["weights"]
    assert json.loads(metadata["architecture"]) == found["architecture"]


def test_memory_is_shown_beside_latency(result_path: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert call("verify", result_path, "--device", "fake", "--memory") == 0
    shown = capsys.readouterr()
    assert "features MiB  file MiB  running MiB  peak MiB" in shown.out
    best = SearchResult.read(result_path).best
    assert best.memory is not None
    assert best.memory.measured_memory_bytes is not None
    assert f"{best.memory.measured_memory_bytes / 2**20:.4g}" in shown.out.split()
    assert "memory: features are what the search counts" in shown.err


def test_a_search_that_measures(tmp_path: Path, capsys: Capture) -> None:
    """The scripted device's networks take what their ops do, within a few percent."""
    result, table, small = tmp_path / "result.json", tmp_path / "small.lut", "ofa-mbv3-fashion"
    profile(FakeDevice(FakeScript()), small, table, resolutions=[28], networks=0)
    budget_ms = half_way_budget_ms(EfficiencyPredictor(table), load_accuracy(space=small))
    search = ("search", table, "--max-latency", f"{budget_ms}ms", "--verify", *QUICK)
    assert call(*search, "-o", result) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split("  ")[0] == "accuracy %"
    assert f"candidates that were measured keep {budget_ms:.4g} ms with 95 % confidence" in err
    assert "keeps the budget with" in err
    found = SearchResult.read(result)
    assert found.closed_loop is not None
    assert found.best.verified is not None
    assert found.best.verified.upper_ms <= budget_ms
    assert len(out.splitlines()) == 1 + found.closed_loop.measured
    spare = 100.0 * (1.0 - found.best.verified.upper_ms / budget_ms)
    assert f"yes, by {spare:.2g} %" in out.splitlines()[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--max-flops", "300M", "--verify"), "--verify needs the budget"),
        (("--max-latency", "20ms", "--device", "fake"), "--device goes with --verify"),
        (("--max-latency", "20ms", "--verify", "--confidence", "3"), "50<=x<=99.9"),
        (("--max-latency", "20ms", "--confidence", "95"), "--confidence goes with --verify"),
    ],
)
def test_a_search_that_cannot_measure(
    arguments: tuple[str, ...], says: str, table_path: Path, tmp_path: Path, capsys: Capture
) -> None:
    output = tmp_path / "result.json"
    assert call("search", table_path, *arguments, "-o", output) == 2
    assert_one_line(capsys, says)
    assert not output.exists()


@pytest.mark.usefixtures("no_android")
def test_people_get_tables(table_path: Path, result_path: Path, capsys: Capture) -> None:
    for arguments in (
        ["devices"],
        ["spaces"],
        ["table", "show", table_path],
        ["predict", table_path, "--arch", result_path],
        ["profile", "fake", "-o", table_path, "--networks", "4"],
        ["profile", "fake", "-o", table_path, "--dry-run"],
    ):
        capsys.readouterr()
        assert call(*arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) >= 2
        assert "Traceback" not in "".join(lines)


def test_an_error_is_said_to_be_unknown_only_where_no_interval_stands(
    table_path: Path, result_path: Path, capsys: Capture
) -> None:
    """Ops were measured after the calibration, and networks validated since, or not."""
    assert call("calibrate", table_path, "--networks", "4") == 0
    with LatencyTable.open(table_path, write=True) as table:
        documents = table.meta("calibration")
        documents[SPACE]["ops_digest"] = "of before"
        table.put_meta("calibration", documents)
    said = []
    for _ in range(2):
        capsys.readouterr()
        assert call("predict", table_path, "--arch", result_path) == 0
        said.append(capsys.readouterr().err)
        assert call("validate", table_path, "--networks", "4") == 0
    assert ["the error of predictions is not known" in text for text in said] == [True, False]
    assert ["for 95 % of networks" in text for text in said] == [False, True]
    assert all("ops were measured after the calibration" in text for text in said)


def test_table_show_has_every_row(table_path: Path, capsys: Capture) -> None:
    document = call_json(capsys, "table", "show", table_path)
    assert len(document["rows"]) == 96
    assert document["target"]["device"] == "fake"
    shown = call_json(capsys, "table", "show", table_path, "--category", "all")
    assert len(shown["rows"]) == 96 + 3


def test_table_show_is_in_the_networks_order_by_kind(table_path: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert call("table", "show", table_path) == 0
    out, err = capsys.readouterr()
    assert "96 ops; 96 stable; +-" in err
    assert "measured in 1 run, " in err
    heading, *rows = out.splitlines()
    assert heading.split() == ["key", "latency_ms", "+-percent", "status"]
    kinds = [row.partition("/")[0] for row in rows]
    assert list(dict.fromkeys(kinds)) == ["conv", "mbconv", "pool", "linear"]
    assert sum(one != other for one, other in pairwise(kinds)) == 3
    assert rows[0].startswith("conv/224x224x3-112x112x16/")
    mbconvs = [row for row in rows if row.startswith("mbconv")]
    sides = [int(row.split("/")[1].partition("x")[0]) for row in mbconvs]
    assert sides == sorted(sides, reverse=True)


def test_table_show_sorts_filters_and_shows_all(table_path: Path, capsys: Capture) -> None:
    capsys.readouterr()
    asked = ["table", "show", table_path, "--filter", "*k=7*", "--top", "5"]
    assert call(*asked, "--sort", "latency", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    latencies = [row["latency_ms"] for row in rows]
    assert len(rows) == 5
    assert latencies == sorted(latencies, reverse=True)
    assert all("k=7" in row["key"] for row in rows)
    assert call(*asked, "--all", "--sort", "interval") == 0
    assert "ci_low_ms" in capsys.readouterr().out.splitlines()[0]
    assert call("table", "show", table_path, "--filter", "k=99") == 2
    assert "no key matches" in capsys.readouterr().err


def test_the_same_seed_finds_the_same(table_path: Path, capsys: Capture) -> None:
    arguments = ["search", table_path, "--max-latency", "20ms", "--algorithm", "random"]
    first, again = (call_json(capsys, *arguments, "--seed", "5") for _ in range(2))
    for document in (first, again):
        document.pop("cpu_seconds")
    assert first == again


def test_two_limits(table_path: Path, capsys: Capture) -> None:
    found = call_json(
        capsys, "search", table_path, "--max-latency", "25ms", "--max-flops", "250M",
        "--algorithm", "random",
    )  # fmt: skip
    assert found["macs"] <= 250e6
    assert found["predicted_ms"] <= 25


REFUSED: list[tuple[list[str], int, str]] = [
    (["fake", "--precision", "int4"], 2, "precision 'int4' is not available"),
    (["fake", "--threads", "0"], 2, "--threads 0"),
    (["cpu", "--threads", "9999"], 2, "--threads 9999"),
    (["fake", "--option", "xnnpack=off"], 2, "known: none"),
    (["fake", "--runtime", "tvm"], 2, "unknown runtime"),
    (["toy:bare"], 1, "has no runtime"),
    (["toy:litert", "--model", "MODEL"], 1, "no runtime that loads .onnx"),
    (["fake", "-o", "TABLE", "--batch", "2"], 1, "Use another -o file"),
    (["fake", "--model", "MODEL", "-o", "TABLE", "--runtime", "torch"], 2, "cannot load"),
    (["fake", "--model", "MODEL", "--model", "LITE"], 2, "a table speaks of one format"),
]


@pytest.mark.parametrize(("arguments", "code", "says"), REFUSED, ids=[r[2] for r in REFUSED])
@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_a_dry_run_refuses_what_the_run_does(
    arguments: list[str],
    code: int,
    says: str,
    dry: list[str],
    table_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path_factory.mktemp("refused")
    bare, litert = Toy(runtimes=()), Toy(runtimes=("litert",))
    install_toys(tmp_path_factory.mktemp("toys"), monkeypatch, bare=bare, litert=litert)
    files = {"TABLE": table_path, "MODEL": folder / "m.onnx", "LITE": folder / "m.tflite"}
    for format_name in ("onnx", "tflite"):
        model = Emission(format_name).builder(lambda: Conv(Shape(8, 8, 4), 8).graph)()
        (folder / f"m.{format_name}").write_bytes(model)
    given = [str(files.get(word, word)) for word in arguments]
    output = [] if "-o" in given else ["-o", str(folder / "x.lut")]
    assert run(["profile", *given, *output, *dry]) == code
    assert_one_line(capsys, says)
    assert not (folder / "x.lut").exists()


def test_failed_ops_end_with_3(tmp_path: Path, capsys: Capture) -> None:
    code = call("profile", "fake", "-o", tmp_path / "x.lut", "--budget", "0.0001s")
    assert code == 3


USAGE: list[tuple[list[str], str]] = [
    (["profile", "toaster", "-o", "x.lut"], "unknown device 'toaster'"),
    (["profile", "cpu:1", "-o", "x.lut"], "plain 'cpu'"),
    (["profile", "fake", "--space", "ofa", "-o", "x.lut"], "unknown space 'ofa'"),
    (["profile", "fake", "--runtime", "tvm", "-o", "x.lut"], "unknown runtime 'tvm'"),
    (
        ["profile", "fake", "--precision", "int3", "-o", "x.lut"],
        "precision 'int3' is not available",
    ),
    (
        ["profile", "fake", "--runtime", "torch", "--precision", "int8", "-o", "x.lut"],
        "precision 'int8' is not available as torch; known: fp32, fp16",
    ),
    (["profile", "fake", "--option", "xnnpack", "-o", "x.lut"], "write NAME=VALUE"),
    (["profile", "fake", "--option", "xnnpack=off", "-o", "x.lut"], "known: none"),
    (["profile", "cpu", "--time-limit", "60", "-o", "x.lut"], "as 10m"),
    (["profile", "fake", "--resolutions", "225", "-o", "x.lut"], "resolution 225 is not in"),
    (["profile", "fake", "--resolutions", "a", "-o", "x.lut"], "no list of resolutions"),
    (["profile", "fake", "--budget", "10", "-o", "x.lut"], "as 10m"),
    (["profile", "fake", "-o", "no/such/x.lut"], "there is no folder"),
    (["profile", "cpu", "--threads", "9999", "-o", "x.lut"], "--threads 9999"),
    (["profile", "fake"], "Missing option"),
    (["nonsense"], "No such command 'nonsense'."),
    (["profle"], "Did you mean 'profile'?"),
    (["profile", "CPU", "-o", "x.lut"], "Did you mean 'cpu'?"),
    (["profile", "fake", "--space", "ofa-mbv3", "-o", "x.lut"], "Did you mean 'ofa-mbv3-w1"),
    (["profile", "fake", "--space", "", "-o", "x.lut"], "unknown space ''"),
    (["profile", "fake", "--resolutions", "", "-o", "x.lut"], "no list of resolutions"),
    (["profile", "fake", "--runtime", "", "-o", "x.lut"], "unknown runtime ''"),
    (["profile", "fake", "--again", "", "-o", "x.lut"], "--again names nothing"),
    (["profile", "fake", "--again", "mbcnv/*", "-o", "x.lut"], "'mbcnv/*' matches no key"),
    (["doctor", "CPU"], "Did you mean 'cpu'?"),
]


@pytest.mark.parametrize(("arguments", "says"), USAGE, ids=[says for _, says in USAGE])
def test_usage_errors_are_one_line_and_write_nothing(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 2
    assert_one_line(capsys, says)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("budget", ["0ms", "-3ms", "nanms", "20", "ms", "infms", ""])
def test_bad_budgets(table_path: Path, budget: str, capsys: Capture) -> None:
    assert call("search", table_path, f"--max-latency={budget}") == 2
    assert_one_line(capsys, "latency" if budget != "0ms" else "more than zero")


def test_no_budget(table_path: Path, capsys: Capture) -> None:
    assert call("search", table_path) == 2
    assert_one_line(capsys, "needs a limit")


@pytest.mark.timed
def test_a_budget_below_the_fastest_subnet_is_answered_at_once(
    table_path: Path, tmp_path: Path, capsys: Capture
) -> None:
    started = time.monotonic()
    output = tmp_path / "none.json"
    assert call("search", table_path, "--max-latency", "1us", "-o", output) == 1
    assert time.monotonic() - started < 5.0
    assert_one_line(capsys, "fastest subnet", "0.001 ms")
    assert not output.exists()


def test_unknown_algorithm(table_path: Path, capsys: Capture) -> None:
    assert call("search", table_path, "--max-latency", "9ms", "--algorithm", "magic") == 2
    assert_one_line(capsys, "unknown algorithm 'magic'", "evolution")
    assert call("search", table_path, "--max-latency", "9ms", "--algorithm", "evolutoin") == 2
    assert_one_line(capsys, "Did you mean 'evolution'?")


def test_a_space_without_accuracy_says_what_to_pass(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "w12.lut"
    call("profile", "fake", "--space", "ofa-mbv3-w1.2", "-o", path, "--budget", "0.0001s")
    capsys.readouterr()
    assert call("search", path, "--max-latency", "20ms") == 1
    assert_one_line(capsys, "--accuracy FILE")


def test_missing_ops_are_named(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "few.lut"
    call("profile", "fake", "-o", path, "--budget", "0.0001s")
    capsys.readouterr()
    assert call("search", path, "--max-latency", "20ms") == 1
    assert_one_line(capsys, "lutra profile")


def test_a_table_of_another_target(table_path: Path, capsys: Capture) -> None:
    assert call("profile", "cpu", "-o", table_path) == 1
    assert_one_line(capsys, "device is 'fake' in the table but 'cpu' here")


@pytest.mark.parametrize("command", ["table show", "calibrate", "validate", "search", "predict"])
@pytest.mark.parametrize("content", [None, b"", b"junk" * 500, b"SQLite format 3\x00junk"])
def test_files_that_are_no_tables(
    command: str, content: bytes | None, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "file.lut"
    if content is not None:
        path.write_bytes(content)
    extra = {"search": ["--max-latency", "9ms"], "predict": ["--arch", "x.json"]}
    assert call(*command.split(), path, *extra.get(command, [])) == 1
    assert_one_line(capsys, str(path))


def test_a_folder_is_no_table(tmp_path: Path, capsys: Capture) -> None:
    assert call("table", "show", tmp_path) == 2
    assert_one_line(capsys, "is a directory")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x80\x04\x95bomb", "accuracy"),
        (b"", "accuracy"),
        (b"{}", "accuracy"),
    ],
)
def test_bad_accuracy_files(
    content: bytes, says: str, table_path: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "accuracy.pth"
    path.write_bytes(content)
    assert call("search", table_path, "--max-latency", "9ms", "--accuracy", path) == 1
    assert_one_line(capsys, str(path))


@pytest.mark.parametrize("command", ["verify", "export"])
@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"format": "lutra-search-result"}'])
def test_bad_result_files(
    command: str, content: str | None, tmp_path: Path, capsys: Capture
) -> None:
    path, output = tmp_path / "result.json", tmp_path / "model.onnx"
    if content is not None:
        path.write_text(content)
    extra = ["--device", "fake"] if command == "verify" else ["-o", str(output)]
    assert call(command, path, *extra) == 1
    assert_one_line(capsys, "result.json" if command == "verify" else "")
    assert not output.exists()


def damage(path: Path, **changes: object) -> None:
    document = json.loads(path.read_text())
    document.update(changes)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"space": "ofa-resnet50d"}, "of space"),
        ({"space": "imaginary"}, "unknown space"),
        ({"version": 99}, "version 99"),
        ({"candidates": []}, "no candidates"),
        ({"candidates": "x"}, "'candidates' must be a list"),
        ({"target": {}}, "'target' is damaged"),
        ({"limits": None}, "'limits' must be an object"),
    ],
)
def test_damaged_results(
    changes: dict[str, object], says: str, result_path: Path, tmp_path: Path, capsys: Capture
) -> None:
    damage(result_path, **changes)
    before = result_path.read_text()
    capsys.readouterr()
    output = tmp_path / "model.onnx"
    assert call("verify", result_path, "--device", "fake") == 1
    assert_one_line(capsys, says)
    assert call("export", result_path, "-o", output) == 1
    assert_one_line(capsys, says)
    assert result_path.read_text() == before
    assert not output.exists()


def test_a_result_of_another_space_does_not_fit_the_table(
    result_path: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "w12.lut"
    call("profile", "fake", "--space", "ofa-mbv3-w1.2", "-o", path, "--budget", "0.0001s")
    capsys.readouterr()
    assert call("predict", path, "--arch", result_path) == 1
    assert_one_line(capsys, "of space 'ofa-mbv3-w1.0', not of 'ofa-mbv3-w1.2'")


def test_verifying_on_another_device_is_refused(result_path: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert call("verify", result_path, "--device", "cpu") == 1
    assert_one_line(capsys, "another target", "device")


def test_export_to_an_unknown_format(result_path: Path, tmp_path: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert call("export", result_path, "--format", "caffe", "-o", tmp_path / "x") == 2
    assert_one_line(capsys, "unknown format 'caffe'")
    assert not (tmp_path / "x").exists()


def test_export_into_a_missing_folder(result_path: Path, tmp_path: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert call("export", result_path, "-o", tmp_path / "no" / "x.onnx") == 1
    assert_one_line(capsys, "cannot write")


def test_verbose_shows_the_traceback(tmp_path: Path, capsys: Capture) -> None:
    assert call("-v", "table", "show", tmp_path / "none.lut") == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a Linux tmpfs")
def test_a_full_disk(result_path: Path, tmp_path: Path, capsys: Capture) -> None:
    """A real full disk, then a read-only one: a tiny tmpfs, where root may mount one."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        capsys.readouterr()
        assert call("export", result_path, "-o", folder / "model.onnx") == 1
        assert_one_line(capsys, "No space left on device")
        assert list(folder.iterdir()) == []
        assert call("profile", "fake", "-o", folder / "x.lut") == 1
        assert_one_line(capsys, "disk full")
        remount = ["mount", "-o", "remount,ro", str(folder)]
        subprocess.run(remount, check=True)
        assert call("profile", "fake", "-o", folder / "x.lut") == 1
        assert_one_line(capsys, "x.lut")
        assert call("export", result_path, "-o", folder / "model.onnx") == 1
        assert_one_line(capsys, "Read-only file system")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def lutra(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lutra", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.timed
@pytest.mark.parametrize("device", ["fake", pytest.param("cpu", marks=pytest.mark.slow)])
def test_a_killed_profile_resumes_and_completes(device: str, tmp_path: Path) -> None:
    """Killed twice, the third run ends with a complete table; a shared core may leave rows thin."""
    tables, models = tmp_path / "tables", tmp_path / "models"
    tables.mkdir()
    models.mkdir()
    path = tables / "killed.lut"
    command: list[object] = ["profile", device, "-o", path]
    for channels in range(1, 49):
        model = models / f"{channels}.onnx"
        graph = Conv(Shape(8, 8, channels), 8).graph
        model.write_bytes(Emission().emit(graph, seeded_weights(graph)))
        command += ["--model", model]
    kept = 0
    for _ in range(2):
        with lutra(*command) as process:
            deadline = time.monotonic() + 60
            while _visits(path) < kept + 20:
                assert process.poll() is None
                assert time.monotonic() < deadline
                os.sched_yield()
            seen = _visits(path)
            os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        kept = _visits(path)
        assert kept >= seen
    with lutra(*command) as process:
        _, errors = process.communicate(timeout=120)
    assert _visits(path) > kept
    with LatencyTable.open(path) as table:
        rows = table.rows("network")
        assert len(rows) == 48
        thin = {row.key for row in rows if row.status not in ("stable", "unstable")}
        for row in rows:
            assert row.measurement is not None
            assert row.measurement.latency_ms > 0
            assert row.measurement.processes >= 2 or row.key in thin
        for key in thin:
            assert device == "cpu"
            assert any("shared" in visit.flags for visit in table.visits("network", key))
    assert process.returncode == (3 if thin else 0), errors
    assert [item.name for item in tables.iterdir()] == [path.name]


def test_a_reader_that_has_seen_enough_is_no_error(table_path: Path) -> None:
    with lutra("table", "show", table_path, "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "{\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def _visits(path: Path) -> int:
    if not path.exists():
        return 0
    try:
        with LatencyTable.open(path) as table:
            return sum(len(found) for found in table.all_visits("network").values())
    except Exception:
        return 0


def test_json_has_null_for_what_is_not_known(capsys: Capture) -> None:
    print_json({"repeatability_percent": float("nan"), "rows": [(1.5, float("nan"))]})
    assert json.loads(capsys.readouterr().out) == {
        "repeatability_percent": None,
        "rows": [[1.5, None]],
    }
