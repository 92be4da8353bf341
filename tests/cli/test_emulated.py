"""From nothing to a found network on devices of another kind: real adb, real SSH, real inference.

The devices are arm64 systems under qemu, so each takes minutes: `pytest -m slow`. Their numbers
are no performance data, but the sums must still add up.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lutra.cli.main import run
from lutra.devices.base import Device, RuntimeConfig, Sample, TimingRequest
from lutra.devices.benchmark_model.binary import ENVIRONMENT
from lutra.devices.registry import open_device
from lutra.emitters.emission import Emission
from lutra.profiler.profile import profile
from lutra.profiler.protocols import TimingProtocol
from lutra.profiler.stopping import StoppingRule
from lutra.profiler.workload import ModelStore, network_workload
from lutra.spaces import get_space, parse_architecture
from lutra.tables import LatencyTable
from tests.conftest import SPACE
from tests.peers.board import Board
from tests.peers.phone import Phone
from tests.peers.roots import benchmark_model
from tests.predictors.accuracy.test_accuracy import tutorial_state, write

ONCE = TimingProtocol(
    seconds=0.02,
    warmup_seconds=0.0,
    reference_every=96,
    rule=StoppingRule(min_rounds=1, min_processes=1, max_rounds=1),
)
RESOLUTION = 128

pytestmark = [
    pytest.mark.emulated,
    pytest.mark.slow,
    pytest.mark.timed,
    pytest.mark.timeout(1200),
]


def check_from_table_to_network(
    device: Device, config: RuntimeConfig, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Profile, predict and search; the prediction is held to a measured network."""
    table = folder / "device.lut"
    space = get_space(SPACE)
    summary = profile(
        device,
        space,
        table,
        resolutions=[RESOLUTION],
        networks=0,
        runtime=config.runtime,
        threads=config.threads,
        options=config.options,
        protocol=ONCE,
    )
    assert summary.failed == 0
    assert summary.workloads == len(space.ops_at([RESOLUTION]))
    with LatencyTable.open(table) as made:  # emulated cores are shared: a row may be flagged so
        assert all(row.measurement is not None for row in made.rows("op"))
        assert len(made.rows("op")) == summary.workloads

    fastest = _search(table, folder / "result.json", "1000s", capsys)
    budget = 0.7 * fastest["predicted_ms"]
    found = _search(table, folder / "result.json", f"{budget}ms", capsys)
    assert found["predicted_ms"] <= budget
    assert found["architecture"]["r"] == RESOLUTION
    measured = _measured_ms(device, config, found["architecture"], folder)
    assert 0.5 < found["predicted_ms"] / measured < 2.0


def _search(table: Path, result: Path, limit: str, capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    accuracy = write(result.with_name("accuracy.pth"), tutorial_state())
    words = ["search", str(table), "--max-latency", limit, "-o", str(result), "--json"]
    words += ["--accuracy", str(accuracy)]
    assert run(words) == 0
    return json.loads(capsys.readouterr().out)


def _measured_ms(device: Device, config: RuntimeConfig, architecture: Any, folder: Path) -> float:
    space = get_space(SPACE)
    workload = network_workload(space, parse_architecture(architecture), "", Emission("tflite"))
    model = ModelStore(folder, "tflite").path(workload)
    with device.open(config) as session:
        (outcome,) = session.measure([TimingRequest(0, model, 0.1, 0.0, limit_seconds=300)])
    assert isinstance(outcome, Sample), outcome
    return outcome.block_ms[0]


def test_a_phone(
    emulated_phone: Phone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(benchmark_model("arm64")))
    device = open_device(f"adb:{emulated_phone.serial}")
    assert device.info().architecture == "arm64-v8a"
    check_from_table_to_network(device, RuntimeConfig("benchmark_model"), tmp_path, capsys)
    assert not list(emulated_phone.files.iterdir())


def test_a_board(emulated_board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device = open_device(emulated_board.spec)
    assert device.info().model == "Raspberry Pi 4 Model B Rev 1.4"
    assert device.runtimes() == ("tflite-runtime",)
    config = RuntimeConfig(
        "tflite-runtime", options={"cores": "1"}
    )  # the emulator has fewer than it says
    check_from_table_to_network(device, config, tmp_path, capsys)
    assert not list(emulated_board.files.glob("lutra-*"))
