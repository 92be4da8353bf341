"""A session over the worker on another machine: the same files, run there by its own Python."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from lutra.devices.base import Outcome, RequestFailure, RuntimeConfig, TimingRequest
from lutra.devices.remote.channel import LineReader, LinkLost, ProgramEnded
from lutra.devices.remote.link_retry import measure_despite_losses
from lutra.devices.remote.shell import Shell, home_path, quoted
from lutra.devices.remote.workspace import Workspace, WorkspaceSpec
from lutra.devices.sessions.worker_client import WorkerClient
from lutra.devices.sessions.worker_session import WorkerSession
from lutra.errors import PermanentDeviceError

_START_SECONDS = 30.0
_PACKAGE = Path(__file__).parents[2]  # lutra/
NVML_READER = "lutra/devices/worker/nvml.py"


def worker_files() -> dict[str, Path | bytes]:
    """The files of the worker, by the names that they have beside each other."""
    packages = [_PACKAGE / "__init__.py", _PACKAGE / "devices" / "__init__.py"]
    files = [*packages, *sorted((_PACKAGE / "devices" / "worker").rglob("*.py"))]
    return {str(file.relative_to(_PACKAGE.parent)): file for file in files}


def gpu_files() -> dict[str, Path | bytes]:
    """What reads a GPU's state, also on a machine that lacks NVIDIA's package for it.

    Raises `PermanentDeviceError` where this machine lacks it too.
    """
    found = find_spec("pynvml")
    if found is None or found.origin is None:
        raise PermanentDeviceError("GPUs need the package nvidia-ml-py: pip install nvidia-ml-py")
    return {"pynvml.py": Path(found.origin), NVML_READER: _PACKAGE.parent / NVML_READER}


class BoardSession(WorkerSession):
    """Times models through a worker that ``python`` runs on the other end of a shell."""

    batch = 32  # docs/decisions.md: Requests in batches
    sends_models = True

    def __init__(
        self,
        shell: Shell,
        workspace: WorkspaceSpec,
        config: RuntimeConfig,
        *,
        cores: tuple[int, ...],
        python: str,
        cuda: int | None = None,
        claim: contextlib.ExitStack | None = None,
    ) -> None:
        super().__init__(self._start_worker, config, cores, cuda, claim)
        self._shell = shell
        self._python = python
        files = worker_files() if cuda is None else {**worker_files(), **gpu_files()}
        self._workspace = Workspace(shell, replace(workspace, files=files))

    def _start_worker(self) -> WorkerClient:
        folder = quoted(self._workspace.folder().path)
        mark = f"lutra-{secrets.token_hex(8)}"
        channel = self._shell.start(
            f"cd {folder} && echo $$ > pid && echo {mark} && exec env OMP_NUM_THREADS=1"
            f" PYTHONPATH={folder} TMPDIR={folder}"
            f" {home_path(self._python)} -m lutra.devices.worker"
        )
        try:
            lines = LineReader(channel)
            started = _skip_greeting(lines, mark.encode())
        except ProgramEnded as ended:
            channel.close()
            raise LinkLost(f"{self._shell.spec}: the worker {ended}") from None
        if not started:
            channel.kill()
            channel.close()
            raise LinkLost(f"{self._shell.spec}: no worker within {_START_SECONDS:g} s")
        return WorkerClient(channel, lines)

    def measure(self, requests: Iterable[TimingRequest]) -> Iterator[Outcome]:
        return measure_despite_losses(requests, self._batch, self._lose)

    def _batch(self, requests: Sequence[TimingRequest]) -> Iterator[Outcome]:
        placed = self._workspace.folder().place([request.model for request in requests])
        for request in requests:
            if request.model not in placed:
                message = f"there is no model {request.model}"
                yield RequestFailure(request.id, "load", message, transient=False)
            else:
                yield self._timed(request, placed.__getitem__)

    def _drop(self) -> None:
        """Let go of a worker that is dead or hangs; sshd passes on no signals for root."""
        if self._client is not None:
            with contextlib.suppress(LinkLost):
                self._workspace.folder().end_program()
        super()._drop()

    def _lose(self) -> None:
        super()._drop()
        self._workspace.lose()

    def throttled(self) -> bool:
        return super().throttled() if self.clocked else self._workspace.throttled()

    def close(self) -> None:
        self.restart()
        self._workspace.close()
        super().close()


def _skip_greeting(lines: LineReader, mark: bytes) -> bool:
    """Read up to our mark, before which a login shell may greet; whether it came."""
    return any(line.endswith(mark) for line in lines.lines(_START_SECONDS))
