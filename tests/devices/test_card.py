"""A real GPU as the adapter sees it, before other tests of this process compute on it too."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from lutra.devices.base import RuntimeConfig, Sample, TimingRequest
from lutra.devices.cuda import CudaDevice
from lutra.devices.worker.nvml import Gpu
from lutra.emitters.emission import Emission
from lutra.ops import Conv, Shape
from lutra.profiler.workload import ModelStore, op_workload
from tests.peers.gpu.card import why_no_card

_MISSING = why_no_card("torch")
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.timed,
    pytest.mark.skipif(_MISSING is not None, reason=f"no GPU: {_MISSING}"),
]
OP = Conv(Shape(56, 56, 64), 64, kernel=3)


def test_own_worker_is_not_among_the_others(tmp_path: Path) -> None:
    with contextlib.closing(Gpu(0)) as gpu:
        if gpu.pids():
            pytest.skip(f"other processes compute on the card: {sorted(gpu.pids())}")
    path = ModelStore(tmp_path, "torch").path(op_workload(OP, Emission("torch")))
    with CudaDevice(0).open(RuntimeConfig("torch")) as session:
        for outcome in session.measure([TimingRequest(0, path), TimingRequest(1, path)]):
            assert isinstance(outcome, Sample), outcome
            assert "shared" not in outcome.flags


def test_memory_of_models_is_given_back(tmp_path: Path) -> None:
    path = ModelStore(tmp_path, "torch").path(op_workload(OP, Emission("torch", batch=64)))
    free = []
    with CudaDevice(0).open(RuntimeConfig("torch", batch=64)) as session:
        for _ in range(10):
            requests = [TimingRequest(number, path, seconds=0.001) for number in range(10)]
            assert all(isinstance(outcome, Sample) for outcome in session.measure(requests))
            with contextlib.closing(Gpu(0)) as gpu:
                free.append(gpu.state()["free_bytes"])
    assert min(free[1:]) > free[0] - (256 << 20)
