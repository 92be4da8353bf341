"""GPUs of this machine: the real worker, runtime file and pynvml, on a scripted driver library and
a simulated torch.cuda; what only a card can show is in test_torch_cuda.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lutra.devices.base import (
    Device,
    Outcome,
    RequestFailure,
    RuntimeConfig,
    Sample,
    Session,
    TimingRequest,
)
from lutra.devices.cuda import CudaDevice, attached_gpus, cuda_device
from lutra.emitters.emission import Emission
from lutra.errors import PermanentDeviceError, UsageError
from lutra.ops import Conv, MBConv, OpConfig, Shape
from lutra.profiler.workload import ModelStore, op_workload
from lutra.testing import DeviceContract
from tests.peers.gpu.scripted import ScriptedGpu, advice_of

SMALL = Conv(Shape(7, 7, 32), 32, kernel=3)
MANY_KERNELS = MBConv(Shape(14, 14, 16), 16, 64, 3, 1, activation="h_swish", se=True, residual=True)
LARGE = Conv(Shape(112, 112, 64), 256, kernel=7)


@pytest.fixture
def device(simulated_gpu: ScriptedGpu) -> CudaDevice:
    return CudaDevice(0)


@pytest.fixture(scope="module")
def eager_session(shared_simulated_gpu: ScriptedGpu) -> Iterator[Session]:
    with CudaDevice(0).open(RuntimeConfig("torch")) as opened:
        yield opened


@pytest.fixture(scope="module")
def replaying_session(shared_simulated_gpu: ScriptedGpu) -> Iterator[Session]:
    with CudaDevice(0).open(RuntimeConfig("torch", options={"graph": "on"})) as opened:
        yield opened


@pytest.fixture
def eager(simulated_gpu: ScriptedGpu, eager_session: Session) -> Session:
    """One session for all tests that can share it: a worker imports torch for seconds."""
    return eager_session


@pytest.fixture
def replaying(simulated_gpu: ScriptedGpu, replaying_session: Session) -> Session:
    """The same with ``graph=on``."""
    return replaying_session


class TestContract(DeviceContract):
    @pytest.fixture
    def device(self, simulated_gpu: ScriptedGpu) -> Device:
        return CudaDevice(0)

    @pytest.fixture
    def session(self, eager: Session) -> Session:
        return eager


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    folder = tmp_path / "models"
    folder.mkdir()
    return ModelStore(folder, "torch")


def time_each(
    session: Session, store: ModelStore, *ops: OpConfig, batch: int = 1
) -> Iterator[Outcome]:
    """One outcome for each op."""
    emission = Emission("torch", batch=batch)
    paths = [store.path(op_workload(op, emission)) for op in ops]
    return session.measure(
        TimingRequest(number, path, seconds=0.005, warmup_seconds=0.05, block_seconds=0.001)
        for number, path in enumerate(paths)
    )


def sample_of(outcome: Outcome) -> Sample:
    assert isinstance(outcome, Sample), outcome
    return outcome


def failure_of(outcome: Outcome) -> RequestFailure:
    assert isinstance(outcome, RequestFailure), outcome
    return outcome


# what it is


def test_info_and_health_come_from_the_driver(
    device: CudaDevice, simulated_gpu: ScriptedGpu
) -> None:
    info = device.info()
    assert info.spec == "cuda:0"
    assert info.model.startswith("NVIDIA H100 80GB HBM3 on ")
    assert info.architecture == "compute 9.0"
    assert info.fingerprint["device"] == "cuda"
    simulated_gpu.set(throttle="40", power_mw=400_500, temperature_c=88)
    health = device.health()
    assert health.throttled
    assert health.throttle_reasons == ("hw thermal slowdown",)
    assert (health.power_w, health.temperature_c) == (400.5, 88)


def test_driver_update_is_no_other_device(device: CudaDevice, simulated_gpu: ScriptedGpu) -> None:
    before = device.info()
    simulated_gpu.set(driver="999.1")
    after = device.info()
    assert before.fingerprint == after.fingerprint
    assert "driver 999.1" in after.os


def test_advice_names_other_processes(device: CudaDevice, simulated_gpu: ScriptedGpu) -> None:
    assert advice_of(device) == []
    simulated_gpu.set(processes=f"77:{300 << 20}", names="77:/usr/bin/python3", throttle="4")
    shared, held = advice_of(device)
    assert "/usr/bin/python3 (pid 77, 300 MiB) computes on the same GPU" in shared
    assert "sw power cap" in held


def test_bare_spec_needs_exactly_one_gpu(simulated_gpu: ScriptedGpu) -> None:
    assert cuda_device("").info().spec == "cuda:0"
    simulated_gpu.set(gpus=2)
    with pytest.raises(UsageError, match="cuda:0, cuda:1"):
        cuda_device("")
    assert [item.spec for item in attached_gpus()] == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize("address", ["x", "-1", "0:0", "²", "9999"])
def test_other_specs_are_refused(address: str) -> None:
    with pytest.raises(UsageError, match="the spec is cuda:0"):
        cuda_device(address)


def test_gpu_that_is_not_there(simulated_gpu: ScriptedGpu) -> None:
    with pytest.raises(PermanentDeviceError, match="cuda:3: there is no GPU 3"):
        CudaDevice(3).info()


def test_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    from lutra.devices.worker import nvml

    def missing() -> None:
        raise nvml.NoGpu("driver", "no NVIDIA driver on this machine")

    monkeypatch.setattr(nvml, "_start", missing)
    with pytest.raises(PermanentDeviceError, match="cuda:0: no NVIDIA driver"):
        CudaDevice(0).info()
    with pytest.raises(PermanentDeviceError, match="cuda: no NVIDIA driver"):
        cuda_device("")
    monkeypatch.setattr("lutra.devices.cuda._has_nvidia_card", lambda: False)
    assert attached_gpus() == []
    monkeypatch.setattr("lutra.devices.cuda._has_nvidia_card", lambda: True)
    (found,) = attached_gpus()
    assert found.advice == "no NVIDIA driver on this machine"


def test_wrong_options_are_named(device: CudaDevice) -> None:
    with pytest.raises(UsageError, match=r"graph=off\|on"):
        device.open(RuntimeConfig("torch", options={"graph": "yes"}))


def test_torch_without_cuda_is_one_line_with_the_remedy() -> None:
    import torch

    from lutra.devices.worker.runtimes import torch_cuda

    if torch.version.cuda is not None:
        pytest.skip("this torch is built for CUDA")
    with pytest.raises(RuntimeError, match=r"a build without CUDA; .*pip install") as caught:
        torch_cuda.describe({"options": {}})
    assert "\n" not in str(caught.value)


# how it times


@pytest.mark.timed
def test_eager_tells_launch_bound_from_device_bound_and_a_graph_has_no_launches(
    eager: Session, replaying: Session, store: ModelStore
) -> None:
    small, large = map(sample_of, time_each(eager, store, MANY_KERNELS, LARGE))
    assert small.device_ms is not None
    assert large.device_ms is not None
    assert min(small.block_ms) > 3 * small.device_ms  # ten kernels of 8 us to launch, 2 to run
    assert min(large.block_ms) == pytest.approx(large.device_ms, rel=0.05)
    assert small.runs_per_block % 8 == 0  # rotating inputs
    (replayed,) = map(sample_of, time_each(replaying, store, MANY_KERNELS))
    assert replayed.device_ms is None
    assert min(replayed.block_ms) == pytest.approx(small.device_ms, rel=0.05)


@pytest.mark.timed
def test_latency_is_of_the_whole_batch(
    replaying: Session, store: ModelStore, tmp_path: Path
) -> None:
    (one,) = map(sample_of, time_each(replaying, store, LARGE))
    others = ModelStore(tmp_path, "torch")
    (many,) = map(sample_of, time_each(replaying, others, LARGE, batch=8))
    assert min(many.block_ms) == pytest.approx(8 * min(one.block_ms), rel=0.1)


def test_options_are_part_of_the_target(device: CudaDevice, store: ModelStore) -> None:
    options = {"layout": "channels_last", "tf32": "on", "autotune": "on", "inputs": "same"}
    with device.open(RuntimeConfig("torch", options={**options, "graph": "off"})) as session:
        recorded = "autotune=on,inputs=same,layout=channels_last,tf32=on"
        assert session.describe().options == recorded
        (outcome,) = time_each(session, store, MANY_KERNELS)
        assert sample_of(outcome).clock_mhz == 1755


@pytest.mark.timed
def test_clock_is_told_with_each_sample(
    replaying: Session, store: ModelStore, simulated_gpu: ScriptedGpu
) -> None:
    outcomes = time_each(replaying, store, LARGE, LARGE)
    fast = sample_of(next(outcomes))
    simulated_gpu.set(clock_mhz=1200)
    slow = sample_of(next(outcomes))
    assert (fast.clock_mhz, slow.clock_mhz) == (1755, 1200)
    assert min(slow.block_ms) == pytest.approx(1755 / 1200 * min(fast.block_ms), rel=0.05)


# what can go wrong


def test_other_process_and_throttling_flag_what_is_measured(
    replaying: Session, store: ModelStore, simulated_gpu: ScriptedGpu
) -> None:
    def flags() -> tuple[str, ...]:
        (outcome,) = time_each(replaying, store, SMALL)
        return sample_of(outcome).flags

    assert flags() == ()
    assert not replaying.throttled()
    simulated_gpu.set(processes="4242:1000", throttle="20")
    assert flags() == ("throttled", "shared")
    assert replaying.throttled()
    simulated_gpu.set(processes="", throttle="0")
    assert flags() == ()


def test_card_without_room_fails_that_model_only(
    replaying: Session, store: ModelStore, simulated_gpu: ScriptedGpu
) -> None:
    simulated_gpu.set(sim_memory=200_000)
    first, second, third = time_each(replaying, store, SMALL, LARGE, SMALL)
    failure = failure_of(second)
    assert "no memory left, a smaller --batch needs less: " in failure.message
    assert not failure.transient
    assert sample_of(first).process == sample_of(third).process


def test_card_filled_by_another_process_is_tried_again(
    replaying: Session, store: ModelStore, simulated_gpu: ScriptedGpu
) -> None:
    simulated_gpu.set(sim_memory=200_000, processes="4242:1000")
    first, second = time_each(replaying, store, LARGE, SMALL)
    failure = failure_of(first)
    assert "another process uses it too" in failure.message
    assert failure.transient
    assert sample_of(second).flags == ("shared",)


def test_fault_of_one_model_is_survived_in_a_fresh_process(
    replaying: Session, store: ModelStore, simulated_gpu: ScriptedGpu
) -> None:
    outcomes = time_each(replaying, store, SMALL, SMALL, SMALL)
    before = sample_of(next(outcomes))
    simulated_gpu.set(sim_fault=1)
    failure = failure_of(next(outcomes))
    assert failure.kind == "crash"
    assert failure.transient
    assert "unspecified launch failure" in failure.message
    simulated_gpu.set(sim_fault=0)
    assert sample_of(next(outcomes)).process == before.process + 1


def test_lost_card_ends_the_worker_and_then_the_session(
    replaying: Session, store: ModelStore, simulated_gpu: ScriptedGpu
) -> None:
    outcomes = time_each(replaying, store, SMALL, SMALL, SMALL)
    sample_of(next(outcomes))
    simulated_gpu.set(lost=1)
    assert failure_of(next(outcomes)).kind == "crash"
    with pytest.raises(PermanentDeviceError, match="fallen off the bus"):
        next(outcomes)
