"""Other runtimes and precisions from the command line, and model files of the user's own."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from lutra.devices.registry import format_of
from lutra.devices.worker.runtimes import RUNTIMES
from lutra.emitters.emission import FORMATS
from lutra.search.export import export
from lutra.search.result import read_found
from lutra.spaces import get_space
from lutra.tables import LatencyTable
from tests.cli.test_cli import Capture, assert_one_line, call, call_json
from tests.conftest import SMALL_SPACE
from tests.emitters.test_model_file import LIGHT, packaged_tflite, relu
from tests.fuzz.models import open_tflite
from tests.tflite_runtimes import INTERPRETERS

SQUEEZENET = LIGHT / "light_squeezenet.onnx"


def profiled(capsys: Capture, table: Path, seconds: int, *words: object, rows: int = 1) -> int:
    """Profile on this CPU for so long, and then go on for longer: a slow machine may need it."""
    for budget in (seconds, 8 * seconds, 64 * seconds):
        capsys.readouterr()
        code = call("profile", "cpu", *words, "--budget", f"{budget}s", "-o", table)
        with LatencyTable.open(table) as opened:
            found = [*opened.rows("op"), *opened.rows("network")]
        if sum(row.measurement is not None for row in found) >= rows:
            break
    return code


def run_tflite(path: Path) -> Any:
    module: Any = INTERPRETERS["litert"]
    interpreter = module.Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    interpreter.invoke()
    return interpreter.get_output_details()[0]


@pytest.mark.parametrize(
    ("runtime", "precision"), [("litert", "int8"), ("torch", "fp32"), ("onnxruntime", "fp16")]
)
def test_the_whole_job_at_another_precision(
    runtime: str, precision: str, tmp_path: Path, capsys: Capture
) -> None:
    """On the scripted device, whose latencies are the sizes of the files that a runtime loads."""
    table, result = tmp_path / "x.lut", tmp_path / "result.json"
    config = ["--space", SMALL_SPACE, "--resolutions", "28", "--networks", "6"]
    config += ["--runtime", runtime, "--precision", precision]
    ops = len(get_space(SMALL_SPACE).ops_at([28]))
    assert call_json(capsys, "profile", "fake", *config, "-o", table)["stable"] == ops + 6
    assert call_json(capsys, "validate", table, "--networks", "4")["mape_percent"] < 1.0
    search = ["search", table, "--max-latency", "20ms", "-o", result, "--algorithm", "random"]
    found = call_json(capsys, *search)
    assert found["target"]["runtime"] == runtime
    assert found["target"]["precision"] == precision
    verified = call_json(capsys, "verify", result, "--device", "fake")
    assert verified["measured_ms"] == pytest.approx(found["predicted_ms"], rel=0.02)
    exported = call_json(capsys, "export", result, "-o", tmp_path / "model")
    assert exported["format"] == format_of(runtime)
    assert exported["precision"] == precision


@pytest.mark.parametrize(
    ("format_name", "precision"),
    [(name, precision) for name, known in FORMATS.items() for precision in known],
)
def test_export_every_format_and_precision(
    format_name: str, precision: str, result_path: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / f"model.{format_name}"
    flags = ["--format", format_name, "--precision", precision]
    document = call_json(capsys, "export", result_path, *flags, "-o", path)
    assert "not trained" in document["weights"]
    match format_name:
        case "onnx":
            onnx.checker.check_model(onnx.load(path), full_check=True)
        case "tflite":
            assert list(run_tflite(path)["shape"]) == [1, 1000]
        case "torch":
            assert torch.load(path, weights_only=True)["metadata"]["precision"] == precision


def test_the_exported_file_is_the_one_that_verify_times(result_path: Path, tmp_path: Path) -> None:
    from lutra.profiler.workload import network_workload

    architecture, emission = read_found(result_path)
    export(result_path, tmp_path / "model.onnx")
    exported = onnx.load(tmp_path / "model.onnx")
    del exported.metadata_props[:]
    timed = network_workload(get_space(architecture.space), architecture, "verify", emission).model
    assert not isinstance(timed, Path)
    assert exported == onnx.load_from_string(timed())


def test_export_of_a_precision_that_a_format_lacks(
    result_path: Path, tmp_path: Path, capsys: Capture
) -> None:
    flags = ["--format", "torch", "--precision", "int8"]
    assert call("export", result_path, *flags, "-o", tmp_path / "x") == 2
    assert_one_line(capsys, "'int8' is not available as torch")
    assert not (tmp_path / "x").exists()


def test_a_table_of_each_runtime_on_this_cpu(tmp_path: Path, capsys: Capture) -> None:
    for runtime in RUNTIMES:
        if isinstance(INTERPRETERS.get(runtime), str):
            continue
        table = tmp_path / f"{runtime}.lut"
        assert profiled(capsys, table, 1, "--runtime", runtime) == 3
        capsys.readouterr()
        shown = call_json(capsys, "table", "show", table)
        assert shown["target"]["runtime"] == runtime
        assert shown["rows"]
        delegated = {row["delegated_nodes"] for row in shown["rows"]}
        assert (delegated != {None}) == (format_of(runtime) == "tflite")


def test_model_files_become_network_rows(tmp_path: Path, capsys: Capture) -> None:
    table = tmp_path / "models.lut"
    models = ["--model", SQUEEZENET, "--model", LIGHT / "light_shufflenet.onnx"]
    code = profiled(capsys, table, 8, *models, "--json", rows=2)
    assert code in (0, 3)  # 3: a machine too noisy for a stable row
    document = json.loads(capsys.readouterr().out)
    assert [row["key"].split("@")[0] for row in document["models"]] == [
        "light_squeezenet.onnx",
        "light_shufflenet.onnx",
    ]
    assert all(row["latency_ms"] > 0 for row in document["models"])
    with LatencyTable.open(table) as opened:
        assert len(opened.rows("network", "model")) == 2
        assert opened.target.precision == "fp32"


def test_a_real_tflite_file(tmp_path: Path, capsys: Capture) -> None:
    table = tmp_path / "models.lut"
    model = packaged_tflite("efficientnet_lite0.tflite")
    assert profiled(capsys, table, 8, "--model", model) in (0, 3)
    assert "efficientnet_lite0.tflite@sha256:" in capsys.readouterr().out
    with LatencyTable.open(table) as opened:
        (row,) = opened.rows("network")
        assert row.measurement is not None
        assert row.nodes is not None
        assert row.nodes[1] > 0
        target = opened.target
    assert (target.runtime, target.precision) == ("litert", "int8")


def test_a_tflite_file_of_open_sizes_says_at_which_it_is_timed(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("open.tflite").write_bytes(open_tflite(signature=(-1, 64, 64), shape=(1, 64, 64)))
    assert profiled(capsys, Path("x.lut"), 4, "--model", "open.tflite") in (0, 3)
    printed = capsys.readouterr()
    assert "/x=1x64x64 " in printed.out
    assert "open.tflite leaves sizes of its inputs open: it is timed at" in printed.err
    assert "x (1, 64, 64)" in printed.err
    flags = ["profile", "cpu", "--model", "open.tflite", "-o", "x.lut"]
    assert call(*flags, "--shape", "x=4,64,64") == 2
    assert_one_line(capsys, "only .onnx files have")
    Path("fixed.tflite").write_bytes(open_tflite(signature=(1, 64, 64), shape=(1, 64, 64)))
    assert call("profile", "cpu", "--model", "fixed.tflite", "-o", "x.lut", "--dry-run") == 0
    assert "leaves" not in capsys.readouterr().err


def test_people_see_what_a_dry_run_would_time(tmp_path: Path, capsys: Capture) -> None:
    table = tmp_path / "dry.lut"
    assert call("profile", "cpu", "--model", SQUEEZENET, "-o", table, "--dry-run") == 0
    assert "onnxruntime" in capsys.readouterr().out
    assert not table.exists()


def test_a_model_that_takes_too_long_is_a_failure(tmp_path: Path, capsys: Capture) -> None:
    table = tmp_path / "slow.lut"
    slow = ["--model", LIGHT / "light_resnet50.onnx", "--time-limit", "0.01s"]
    assert call("profile", "cpu", *slow, "-o", table) == 3
    assert "no answer within 0.01 s" in capsys.readouterr().out
    with LatencyTable.open(table) as opened:
        (row,) = opened.rows("network")
    assert row.failure is not None
    assert row.failure.kind == "timeout"


def test_a_model_that_does_not_run_is_a_failure(tmp_path: Path, capsys: Capture) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph([helper.make_node("NoSuchOp", ["x"], ["y"])], "g", [value], [result])
    path = tmp_path / "odd.onnx"
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, ir_version=8, opset_imports=opset)
    path.write_bytes(model.SerializeToString())
    assert call("profile", "cpu", "--model", path, "-o", tmp_path / "odd.lut") == 3
    assert "NoSuchOp" in capsys.readouterr().out


def test_a_model_of_open_shape_is_timed_as_told(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relu(Path("open.onnx"), ["batch", 3, None, None])
    flags = ["profile", "cpu", "--model", "open.onnx", "-o", "x.lut"]
    assert call(*flags) == 1
    assert_one_line(capsys, "open.onnx: input 'x0' has the open shape (batch, 3, ?, ?)")
    for rows, sizes in enumerate(("1,3,48,320", "32,3,48,320"), start=1):
        told = ("--model", "open.onnx", "--shape", f"x0={sizes}")
        assert profiled(capsys, Path("x.lut"), 1, *told, rows=rows) in (0, 3)
        assert f"/x0={sizes.replace(',', 'x')} " in capsys.readouterr().out
    with LatencyTable.open(tmp_path / "x.lut") as table:
        small, large = (row.measurement for row in table.rows("network", "model"))
    assert small is not None
    assert large is not None
    assert large.latency_ms > 1.2 * small.latency_ms
    assert call(*flags, "--shape", "batch=1") == 1
    assert_one_line(capsys, "--shape x0=1,3,224,224")
    assert call(*flags[:2], *flags[4:], "--shape", "batch=1") == 2
    assert_one_line(capsys, "goes with --model")


BAD_MODELS: list[tuple[list[object], int, str]] = [
    (["--model", "none.onnx"], 1, "No such file"),
    (["--model", "junk.tflite"], 1, "is no .tflite model"),
    (["--model", "junk.onnx"], 1, "is no ONNX model"),
    (["--model", "junk.pb"], 1, "ends in .onnx or .tflite"),
    (["--model", SQUEEZENET, "--space", "ofa-mbv3-w1.0"], 2, "exclude each other"),
    (["--model", SQUEEZENET, "--precision", "int8"], 2, "is fp32"),
    (["--model", SQUEEZENET, "--runtime", "litert"], 2, "litert cannot load"),
    (["--model", SQUEEZENET, "--shape", "x"], 2, "write NAME=SIZES"),
    (["--model", SQUEEZENET, "--shape", "x=1"], 2, "no model has such an input or open size"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "says"), BAD_MODELS, ids=[says for _, _, says in BAD_MODELS]
)
def test_bad_models_are_one_line_and_write_nothing(
    arguments: list[object],
    code: int,
    says: str,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("junk.tflite", "junk.onnx", "junk.pb"):
        (tmp_path / name).write_bytes(b"\xffjunk" * 50)
    assert call("profile", "cpu", *arguments, "-o", "x.lut") == code
    assert_one_line(capsys, says)
    assert not (tmp_path / "x.lut").exists()
