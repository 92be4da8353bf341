"""torch on a real GPU: what no simulation can show."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lutra.devices.base import Device, RuntimeConfig, Sample, TimingRequest
from lutra.devices.cuda import CudaDevice
from lutra.emitters.emission import Emission
from lutra.ops import Conv, MBConv, OpConfig, Shape
from lutra.profiler.workload import ModelStore, op_workload
from lutra.testing import DeviceContract
from tests.peers.gpu.card import why_no_card

_MISSING = why_no_card("torch")
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.timed,
    pytest.mark.skipif(_MISSING is not None, reason=f"no GPU: {_MISSING}"),
]

SMALL = MBConv(Shape(14, 14, 16), 16, 64, 3, 1, activation="h_swish", se=True, residual=True)
LARGE = Conv(Shape(112, 112, 64), 256, kernel=3)


class TestCard(DeviceContract):
    @pytest.fixture
    def device(self) -> Device:
        return CudaDevice(0)


def sample(
    folder: Path, op: OpConfig, *, precision: str = "fp32", batch: int = 1, **options: str
) -> Sample:
    emission = Emission("torch", precision, batch)
    path = ModelStore(folder, "torch").path(op_workload(op, emission))
    with CudaDevice(0).open(RuntimeConfig("torch", batch=batch, options=options)) as session:
        request = TimingRequest(0, path, 0.1, warmup_seconds=1.0, block_seconds=0.005)
        (outcome,) = session.measure([request])
    assert isinstance(outcome, Sample), outcome
    return outcome


def test_events_agree_with_a_wall_clock_over_a_long_block(tmp_path: Path) -> None:
    """The device's clock and the host's, over a quarter of a second of work."""
    from lutra.devices.worker.runtimes.torch_cuda import describe, load

    settings: dict[str, Any] = {"threads": 1, "batch": 32, "options": {"graph": "on"}}
    describe(settings)
    emission = Emission("torch", batch=32)
    model = load(str(ModelStore(tmp_path, "torch").path(op_workload(LARGE, emission))), settings)
    once = model.milliseconds(model.runs_at_once)
    runs = model.runs_at_once * max(1, round(250 / once / model.runs_at_once))
    model.milliseconds(runs)
    begun = time.perf_counter()
    by_events = model.milliseconds(runs) * runs
    by_wall = 1e3 * (time.perf_counter() - begun)
    assert by_events == pytest.approx(by_wall, rel=0.02)


def test_small_blocks_are_launch_bound_and_a_graph_is_not(tmp_path: Path) -> None:
    eager = sample(tmp_path, SMALL)
    replayed = sample(tmp_path, SMALL, graph="on")
    assert eager.device_ms is not None
    assert min(eager.block_ms) > 1.5 * eager.device_ms
    assert min(replayed.block_ms) == pytest.approx(eager.device_ms, rel=0.15)


def test_large_ones_are_device_bound(tmp_path: Path) -> None:
    eager = sample(tmp_path, LARGE, batch=64)
    assert eager.device_ms is not None
    assert min(eager.block_ms) == pytest.approx(eager.device_ms, rel=0.1)


def test_tf32_and_half_precisions_are_faster_than_fp32(tmp_path: Path) -> None:
    seconds = {
        name: min(sample(tmp_path / name, LARGE, batch=32, graph="on", **arguments).block_ms)
        for name, arguments in _ways(tmp_path)
    }
    assert seconds["tf32"] < 0.9 * seconds["fp32"]
    assert seconds["fp16"] < seconds["tf32"]
    assert seconds["bf16"] < seconds["tf32"]


def _ways(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    channels_last = {"layout": "channels_last"}
    ways: dict[str, dict[str, Any]] = {
        "fp32": {},
        "tf32": {"tf32": "on"},
        "fp16": {"precision": "fp16", **channels_last},
        "bf16": {"precision": "bf16", **channels_last},
    }
    for name, arguments in ways.items():
        (folder / name).mkdir()
        yield name, arguments


def test_compiled_module_runs(tmp_path: Path) -> None:
    assert min(sample(tmp_path, SMALL, compile="on").block_ms) > 0


def test_two_sessions_agree(tmp_path: Path) -> None:
    first, second = (
        sorted(sample(tmp_path, LARGE, batch=32, graph="on").block_ms) for _ in range(2)
    )
    assert first[len(first) // 5] == pytest.approx(second[len(second) // 5], rel=0.02)


def test_sample_carries_the_clock(tmp_path: Path) -> None:
    clock_mhz = sample(tmp_path, LARGE, batch=32, graph="on").clock_mhz
    assert clock_mhz is not None
    assert clock_mhz > 300
