"""A scripted GPU for a test and for its children, or for a board."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers.board import Board
from tests.peers.gpu.scripted import ScriptedGpu, available

SIMULATION = Path(__file__).with_name("simulated")
_DRIVER_VARIABLES = ("LD_LIBRARY_PATH", "NVML_SCRIPT")


@dataclass(frozen=True)
class GpuBoard:
    """A board with a GPU that this machine does not have."""

    board: Board
    gpu: ScriptedGpu

    @property
    def spec(self) -> str:
        """How lutra names the GPU."""
        return f"{self.board.spec}/cuda:0"

    def set_python(self, interpreter: str) -> None:
        """What the board's ``python3`` is; it finds the driver, and workers' torch is simulated."""
        found = self.gpu.environment()
        variables = [f"{name}={shlex.quote(found[name])}" for name in _DRIVER_VARIABLES]
        variables.append(
            f'PYTHONPATH={shlex.quote(str(SIMULATION))}"${{PYTHONPATH:+:$PYTHONPATH}}"'
        )
        program = self.board.programs / "python3"
        program.write_text(
            f'#!/bin/sh\nexport {" ".join(variables)}\nexec {shlex.quote(interpreter)} "$@"\n'
        )
        program.chmod(0o755)


def put_gpu(board: Board, folder: Path) -> GpuBoard:
    """Give a board on the host's system a GPU until it is healed; the script is in ``folder``.

    Skips, with the reason, where it cannot be.
    """
    missing = available()
    if missing is not None:
        pytest.skip(missing)
    made = GpuBoard(board, ScriptedGpu(folder))
    made.set_python(sys.executable)
    return made


@pytest.fixture
def gpu_board(board: Board, tmp_path: Path) -> GpuBoard:
    """The ``board`` with a scripted GPU, on which its python's torch computes in simulation."""
    return put_gpu(board, tmp_path)


@contextlib.contextmanager
def gpu_here(folder: Path) -> Iterator[ScriptedGpu]:
    """A scripted GPU in this machine: in this process, and in those with its environment.

    Skips, with the reason, where it cannot be.
    """
    missing = available()
    if missing is not None:
        pytest.skip(missing)
    gpu = ScriptedGpu(folder)
    with contextlib.ExitStack() as undo:
        try:
            undo.enter_context(gpu.loaded())
        except RuntimeError as error:  # this machine's own driver was faster
            pytest.skip(str(error))
        yield gpu


@pytest.fixture
def scripted_gpu(tmp_path: Path) -> Iterator[ScriptedGpu]:
    """This machine's GPU until the test ends, see `gpu_here`."""
    with gpu_here(tmp_path) as gpu:
        yield gpu


@pytest.fixture(scope="module")
def shared_simulated_gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedGpu]:
    """This machine's GPU for a module's tests; the workers' torch computes on it in simulation."""
    folders = [str(SIMULATION), *filter(None, [os.environ.get("PYTHONPATH")])]
    with (
        gpu_here(tmp_path_factory.mktemp("gpu")) as gpu,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in gpu.environment().items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", os.pathsep.join(folders))
        patch.setattr("lutra.devices.cuda._has_cuda_build", lambda name: name == "torch")
        yield gpu


@pytest.fixture
def simulated_gpu(shared_simulated_gpu: ScriptedGpu) -> ScriptedGpu:
    """The `shared_simulated_gpu`, as new."""
    shared_simulated_gpu.reset()
    return shared_simulated_gpu
