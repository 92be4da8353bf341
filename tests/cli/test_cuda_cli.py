"""GPUs on the command line: the real commands and worker on a scripted driver, simulated torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lutra.devices.cuda import CudaDevice
from lutra.devices.fake import FakeScript
from lutra.emitters.emission import Emission
from lutra.ops import Conv, Shape, seeded_weights
from lutra.profiler.bench import bench_of_table
from lutra.profiler.networks.calibration import calibrate_on, validate_on
from lutra.profiler.profile import profile
from lutra.profiler.protocols import TimingProtocol
from lutra.profiler.stopping import StoppingRule
from lutra.tables import LatencyTable
from tests.cli.test_cli import Capture, call, call_json
from tests.conftest import SPACE
from tests.peers.gpu.scripted import ScriptedGpu
from tests.toys import Toy, install_toys


def error_line(capsys: Capture) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.strip().splitlines()
    return line


def test_gpus_are_listed(
    simulated_gpu: ScriptedGpu, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("lutra.devices.android.attached", dict)  # asks no adb server
    simulated_gpu.set(gpus=2)
    listed = {item["spec"]: item for item in call_json(capsys, "devices")["devices"]}
    assert listed["cuda:1"]["model"].startswith("NVIDIA H100")
    assert listed["cuda:0"]["runtimes"] == ["torch"]


def test_doctor_says_what_disturbs(
    simulated_gpu: ScriptedGpu, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lutra.profiler.doctor._ENOUGH_SECONDS", 0.0)
    simulated_gpu.set(processes=f"77:{300 << 20}", names="77:train.py", throttle="40")
    assert call("doctor", "cuda:0", "--option", "graph=on", "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["fit"], found["shared_percent"]) == (False, 100)
    assert found["health"]["other_processes"] == ["train.py (pid 77, 300 MiB)"]
    assert found["health"]["throttle_reasons"] == ["hw thermal slowdown"]
    assert any(
        "train.py (pid 77, 300 MiB) computes on the same GPU" in s for s in found["findings"]
    )
    assert any("throttling" in sentence for sentence in found["findings"])
    assert found["noise_percent"] < 3.0


def test_machine_without_a_gpu_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    from lutra.devices.worker import nvml

    def missing() -> None:
        raise nvml.NoGpu("driver", "no NVIDIA driver on this machine")

    monkeypatch.setattr(nvml, "_start", missing)
    assert call("profile", "cuda:0", "-o", tmp_path / "x.lut") == 1
    assert error_line(capsys) == "lutra: cuda:0: no NVIDIA driver on this machine"
    assert not (tmp_path / "x.lut").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--batch", "0"], "--batch"),
        (["--precision", "tf32", "--runtime", "torch"], "TF32 is a way to compute fp32"),
        (["--runtime", "torch", "--option", "graph=maybe"], r"graph=off|on"),
        (["--runtime", "litert"], "unknown runtime 'litert' for cuda:0; known: torch, onnxruntime"),
        (["--cuda", "0"], "--cuda 0 goes with ssh:user@host"),
    ],
)
def test_what_cannot_be_asked_of_a_gpu(
    simulated_gpu: ScriptedGpu, tmp_path: Path, capsys: Capture, words: list[str], says: str
) -> None:
    assert call("profile", "cuda:0", *words, "-o", tmp_path / "x.lut") == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "x.lut").exists()


def test_batch_and_model_files_exclude_each_other(tmp_path: Path, capsys: Capture) -> None:
    model = tmp_path / "a.onnx"
    op = Conv(Shape(8, 8, 8), 8)
    model.write_bytes(Emission().emit(op.graph, seeded_weights(op.graph)))
    assert call("profile", "cpu", "--model", model, "--batch", "8", "-o", tmp_path / "x.lut") == 2
    assert "--model and --batch exclude each other" in error_line(capsys)


def test_end_of_a_run_says_that_others_used_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    script = FakeScript(clock_mhz=lambda _: 1980.0, flags=lambda _: ("shared",))
    install_toys(tmp_path, monkeypatch, shared=Toy(script))
    assert call("profile", "toy:shared", "-o", tmp_path / "x.lut", "--networks", "0") == 3
    said = capsys.readouterr().err
    assert "768 visits were made while another process computed on the same core or GPU" in said
    with LatencyTable.open(tmp_path / "x.lut") as table:
        rows = [row.measurement for row in table.rows("op")]
    assert all(row is not None and row.flags == ("shared",) for row in rows)


def test_networks_of_a_gpu_are_chosen_later(
    simulated_gpu: ScriptedGpu, tmp_path: Path, capsys: Capture
) -> None:
    assert call("profile", "cuda:0", "--networks", 4, "-o", tmp_path / "x.lut") == 2
    assert "on GPUs `lutra calibrate` chooses its networks" in capsys.readouterr().err
    assert not (tmp_path / "x.lut").exists()


@pytest.mark.slow
@pytest.mark.timed
@pytest.mark.timeout(1200)
def test_from_nothing_to_a_found_network(
    simulated_gpu: ScriptedGpu, tmp_path: Path, capsys: Capture
) -> None:
    """Eager, at the batch where some of the simulated GPU's networks wait for it, some for us."""
    device, path = CudaDevice(0), tmp_path / "gpu.lut"
    once = StoppingRule(min_rounds=1, min_processes=1, max_rounds=1)
    quick = TimingProtocol(seconds=0.005, reference_every=24, rule=once)
    profile(device, SPACE, path, runtime="torch", batch=5, protocol=quick)
    networks = TimingProtocol(seconds=0.005, reference_every=8, rule=once)
    with bench_of_table(path, device) as (table, bench):
        fitted = calibrate_on(bench, table, networks=12, protocol=networks)
        validation = validate_on(bench, table, networks=6, protocol=networks)
        bounds = {row.measurement.bound for row in table.rows("op") if row.measurement}
    assert bounds == {"launch", "device"}
    assert fitted.launch is not None
    assert validation.mape_percent < 2.0
    assert fitted.sum_mape_percent > 4.0

    rows = call_json(capsys, "table", "show", path)["rows"]
    assert {row["bound"] for row in rows} == {"launch", "device"}
    assert call("table", "show", path) == 0
    assert "device_ms" in capsys.readouterr().out
    limit = f"{_half_way(path)}ms"
    result = tmp_path / "result.json"
    call_json(capsys, "search", path, "--max-latency", limit, "-o", result)
    predicted = call_json(capsys, "predict", path, "--arch", result)
    assert predicted["bound"] in ("device-bound", "launch-bound")
    verified = call_json(capsys, "verify", result, "--device", "cuda:0")
    assert abs(verified["candidates"][0]["error_percent"]) < 5.0


def _half_way(path: Path) -> float:
    from lutra.predictors.accuracy import load_accuracy
    from lutra.predictors.efficiency.predictor import EfficiencyPredictor
    from lutra.search.find import half_way_budget_ms

    with LatencyTable.open(path) as table:
        return half_way_budget_ms(EfficiencyPredictor(table), load_accuracy(space=SPACE))
