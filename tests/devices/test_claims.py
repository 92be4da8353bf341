"""One measurement at a time on each core and device; who holds it is said."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lutra
from lutra.devices import claims
from lutra.devices.base import RuntimeConfig
from lutra.devices.cpu import CpuDevice
from lutra.devices.cuda import CudaDevice
from lutra.devices.remote.cores import core_mask, cores_of
from lutra.devices.ssh import SshDevice
from lutra.errors import LutraError, TransientDeviceError
from lutra.files import locks
from lutra.profiler.doctor import examine
from tests.peers.board import Board
from tests.peers.gpu.scripted import ScriptedGpu

pytestmark = [
    pytest.mark.usefixtures("claimed"),
    pytest.mark.skipif(sys.platform != "linux", reason="claims elsewhere are files, tested below"),
]
TWO_CORES = pytest.mark.skipif(
    len(getattr(os, "sched_getaffinity", lambda _: [0])(0)) < 2, reason="needs two cores"
)
SETTING = RuntimeConfig("onnxruntime")


@contextmanager
def holder(resource: str) -> Iterator[int]:
    """Another process that holds something of this test's."""
    code = (
        f"from lutra.devices import claims; held = claims.claim('test {os.getpid()} {resource}');"
        " print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("resource", ["phone R58M123", "board " + "x" * 300, "GPU ü"])
def test_a_claim_is_anothers_until_its_process_is_killed(resource: str) -> None:
    with holder(resource) as pid:
        with pytest.raises(TransientDeviceError) as raised:
            claims.claim(resource)
        said = str(raised.value)
        assert re.match(rf"{resource} is being measured on by `.*python.*` \(pid {pid}\)\.", said)
        assert "\n" not in said
    with claims.claim(resource):
        pass


def test_a_claim_is_this_runs_own_until_it_is_given_up() -> None:
    with claims.claim("phone"):
        with pytest.raises(TransientDeviceError, match="measured on by this very run"):
            claims.claim("phone")
        claims.claim("another phone").close()
    claims.claim("phone").close()


def test_cores_are_chosen_free_and_given_back_when_too_few_are() -> None:
    with holder("core 1") as pid:
        cores, held = claims.claim_cores(2, [3, 2, 1, 0])
        assert cores == (2, 3)
        with held:
            next_free, also_held = claims.claim_cores(1, [3, 1, 0])
            assert next_free == (0,)
            also_held.close()
            with pytest.raises(TransientDeviceError, match=rf"core 1 by .* \(pid {pid}\)"):
                claims.claim_cores(2, [7, 1])
        claims.claim("core 7").close()
        claims.claim("core 3").close()


@pytest.mark.parametrize("pid_is_known", [True, False])
def test_files_hold_where_sockets_cannot(
    pid_is_known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    taken = locks.taken_by_file(b"core 1")
    assert isinstance(taken, locks.Lock)
    (file,) = tmp_path.glob("lutra-claims-*/*")
    assert file.read_text() == str(os.getpid())
    if not pid_is_known:
        file.write_text("?")
    expected = "this very run" if pid_is_known else "another run"
    assert locks.taken_by_file(b"core 1") == expected
    taken.close()
    again = locks.taken_by_file(b"core 1")
    assert isinstance(again, locks.Lock)
    again.close()


def test_no_file_is_locked_where_another_user_leads_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    mine = tmp_path / "mine"
    mine.mkdir()
    (tmp_path / f"lutra-claims-{os.getuid()}").symlink_to(mine)
    with pytest.raises(LutraError, match="is another user's: remove it"):
        locks.taken_by_file(b"core 1")
    assert not list(mine.iterdir())


@TWO_CORES
def test_two_sessions_on_this_machine_have_cores_of_their_own() -> None:
    allowed = len(os.sched_getaffinity(0))
    with CpuDevice().open(SETTING) as first, CpuDevice().open(SETTING) as second:
        assert first.describe().core_mask != second.describe().core_mask
        with pytest.raises(TransientDeviceError, match="no core is left to measure on"):
            CpuDevice().open(RuntimeConfig("onnxruntime", threads=allowed))
        first.restart()
        with pytest.raises(TransientDeviceError, match="no core is left to measure on"):
            CpuDevice().open(RuntimeConfig("onnxruntime", threads=allowed))
    CpuDevice().open(RuntimeConfig("onnxruntime", threads=allowed)).close()


@TWO_CORES
def test_a_table_is_measured_on_its_own_cores_again(tmp_path: Path) -> None:
    table, stop = tmp_path / "cpu.lut", lutra.Watch(budget_seconds=0.0)
    last = max(os.sched_getaffinity(0))
    with claims.claim(f"core {last}"):
        lutra.profile("cpu", "ofa-mbv3-w1.0", table, watch=stop)
    with lutra.LatencyTable.open(table) as made:
        mask = made.target.core_mask
    assert mask != core_mask([last])
    lutra.profile("cpu", "ofa-mbv3-w1.0", table, watch=stop)  # the last core is free now
    (own,) = cores_of(mask)
    with (
        claims.claim(f"core {own}"),
        pytest.raises(TransientDeviceError, match=f"no core is left to measure on: core {own} by"),
    ):
        lutra.profile("cpu", "ofa-mbv3-w1.0", table, watch=stop)


def test_a_machine_that_is_measured_on_is_unfit_and_says_why() -> None:
    cores = sorted(os.sched_getaffinity(0))
    with claims.claim_cores(len(cores), cores)[1]:
        diagnosis = examine(CpuDevice())
    assert not diagnosis.fit
    assert diagnosis.findings[0].startswith("no core is left to measure on")


def test_a_gpu_is_claimed_by_its_own_number(simulated_gpu: ScriptedGpu) -> None:
    with CudaDevice(0).open(RuntimeConfig("torch")):
        with pytest.raises(TransientDeviceError, match="^GPU-.* is being measured on"):
            CudaDevice(0).open(RuntimeConfig("torch"))
    CudaDevice(0).open(RuntimeConfig("torch")).close()


def test_a_board_is_one_device_by_any_name(board: Board) -> None:
    address = board.spec.removeprefix("ssh:")
    first, second = SshDevice(address), SshDevice(address)
    with first, second, first.open(SETTING):
        with pytest.raises(TransientDeviceError, match="is being measured on by this very run"):
            second.open(SETTING)


@given(st.sets(st.integers(0, 1023), min_size=1))
def test_masks_round_trip(cores: set[int]) -> None:
    assert cores_of(core_mask(sorted(cores))) == tuple(sorted(cores))


@pytest.mark.parametrize("text", ["any", "", "xyz", "-1", "0x", "1.5", "0"])
def test_what_is_no_mask_names_no_cores(text: str) -> None:
    assert cores_of(text) == ()
