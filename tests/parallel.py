"""Tests share the machine's cores; those marked ``timed`` have it to themselves.

A pytest plugin over pytest-xdist. A test that rests on how long something takes would fail, or
worse pass, by what another test does meanwhile. So every test holds one lock while it runs: shared
by most, alone by timed ones. Those who wait for it queue at a second lock, so that a timed test
gets its turn although others come and go. Where timed tests follow one another on a worker, it
keeps the machine from the first to the last: the others are waited for once.

There is a worker more than there are cores, as tests of phones and boards mostly wait for them.

What Python compiles, and pytest rewrites, is kept from one process and run to the next.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import psutil
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Any two files will do: one stands for the machine, the other for the queue before it.
_MACHINE, _QUEUE = Path(__file__), Path(__file__).with_name("conftest.py")
# What runs in one process: a phone or a board takes seconds to build and to boot, a worker of torch
# seconds to import it, and so does what jobs to be killed are forked from; a network takes
# seconds to learn, a table that the examples begin with seconds to measure. Tests of a real card
# are all timed. By file, as tests are distributed by their names alone.
_GROUPS = {
    "phones": (
        "tests/peers/test_peers.py",
        "tests/cli/test_devices_cli.py",
        "tests/devices/test_android.py",
        "tests/devices/test_android_faults.py",
    ),
    "boards": ("tests/devices/test_ssh.py", "tests/devices/test_ssh_cuda.py"),
    "simulated GPUs": ("tests/cli/test_cuda_cli.py", "tests/devices/test_cuda.py"),
    "cards": (
        "tests/devices/test_card.py",
        "tests/devices/worker/test_onnxruntime_cuda.py",
        "tests/devices/worker/test_torch_cuda.py",
        "tests/supernets/training/test_cuda_training.py",
    ),
    "kills": ("tests/test_kills.py",),
    "runtimes": ("tests/devices/worker/test_runtimes.py",),
    "closed loop": ("tests/search/test_closed_loop.py",),
    "verification": ("tests/search/test_verification.py",),
    "reports": ("tests/report/test_report.py",),
    "examples": ("tests/test_examples.py",),
    "trained": (
        "tests/supernets/deployment/test_trained.py",
        "tests/supernets/deployment/test_clustering.py",
        "tests/supernets/deployment/test_tuned_network.py",
    ),
    "quantised": (
        "tests/cli/test_quantize_cli.py",
        "tests/supernets/quantization/test_quantize.py",
        "tests/supernets/quantization/test_simulated.py",
    ),
    "pruned": ("tests/cli/test_prune_cli.py",),
    "shrunk": ("tests/search/training/test_shrink.py",),
}
_GROUP_OF = {file: group for group, files in _GROUPS.items() for file in files}


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_KEPT_BYTES, _LARGEST_FROM_HEAP = 256 << 20, 32 << 20


def pytest_configure(config: pytest.Config) -> None:
    """Let this process keep what it frees, and it and its children what they compile."""
    _keep_memory()
    if sys.dont_write_bytecode:
        _keep_bytecode(config)


def _keep_bytecode(config: pytest.Config) -> None:
    """Where bytecode is not to be written beside the code it goes to pytest's cache.

    Else each worker, and each process that a test starts, compiles all anew, for seconds.
    """
    if not hasattr(config, "cache"):  # -p no:cacheprovider
        return
    kept = config.cache.mkdir("bytecode")
    # Of what tests write and import, under names that do not come again.
    shutil.rmtree(kept.joinpath(*Path(tempfile.gettempdir()).parts[1:]), ignore_errors=True)
    sys.pycache_prefix, sys.dont_write_bytecode = str(kept), False
    os.environ["PYTHONPYCACHEPREFIX"] = str(kept)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def _keep_memory() -> None:
    """Models of megabytes come and go in most tests.

    Getting that memory from the kernel anew each time takes as long as what is done with it.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # glibc has it
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _LARGEST_FROM_HEAP)


class _Groups(LoadScopeScheduling):  # type: ignore[misc]  # xdist is untyped
    """Tests go where there is room; those of a group go to one worker, large groups first."""

    def _split_scope(self, nodeid: str) -> str:
        return _GROUP_OF.get(nodeid.partition("::")[0], nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _Groups:
    """How tests are distributed; marks of xdist's own groups say nothing under pytest 9.2."""
    return _Groups(config, log)


def pytest_xdist_auto_num_workers() -> int:
    """How many workers ``-n auto`` starts."""
    return (psutil.cpu_count(logical=False) or 1) + 1


class _Turn:
    """The machine, shared with others or alone, until it is given back."""

    _file: TextIO | None = None

    def take(self, *, alone: bool) -> None:
        """Wait for it, unless the test before has kept it."""
        if self._file is None:
            self._file = _MACHINE.open()
            with _QUEUE.open() as queue:
                fcntl.flock(queue, fcntl.LOCK_EX)
                fcntl.flock(self._file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)

    def give_back(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


_turn = _Turn()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Run the test beside others, or alone."""
    if "PYTEST_XDIST_WORKER" not in os.environ:  # one process, one test at a time
        return (yield)
    _turn.take(alone=_is_timed(item))
    try:
        return (yield)
    finally:
        if not (_is_timed(item) and nextitem is not None and _is_timed(nextitem)):
            _turn.give_back()


def _is_timed(item: pytest.Item) -> bool:
    return item.get_closest_marker("timed") is not None
