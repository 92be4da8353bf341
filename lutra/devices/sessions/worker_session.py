"""A session over a worker process: crashes and hangs turned into failures."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from lutra.devices.base import (
    FailureKind,
    Outcome,
    RequestFailure,
    RuntimeConfig,
    RuntimeInfo,
    Sample,
    Session,
    TimingRequest,
)
from lutra.devices.options import options_text
from lutra.devices.remote.cores import core_mask
from lutra.devices.sessions.runtimes import known_runtimes
from lutra.devices.sessions.worker_answers import Described, described, is_fatal, outcome_of
from lutra.devices.sessions.worker_client import WorkerClient, WorkerDied, WorkerHung
from lutra.errors import DeviceError


class WorkerSession(Session):
    """Times models through the worker that ``start`` starts, anew whenever it is gone.

    With ``cuda``, the number of a GPU of the worker's machine, on that. ``claim`` is what the
    session holds until it is closed (`lutra.devices.claims`).
    """

    def __init__(
        self,
        start: Callable[[], WorkerClient],
        config: RuntimeConfig,
        cores: tuple[int, ...],
        cuda: int | None = None,
        claim: contextlib.ExitStack | None = None,
    ) -> None:
        self.keeps_models = cuda is None
        self.clocked = cuda is not None
        self._cuda = cuda
        self._claim = claim or contextlib.ExitStack()
        self._throttled = False
        self._start = start
        self._config = config
        self._runtime = known_runtimes(cuda)[config.runtime]
        self._cores = cores
        self._client: WorkerClient | None = None
        self._processes = 0
        self._described = Described("", "", 0)

    def describe(self) -> RuntimeInfo:
        self._ready()
        return RuntimeInfo(
            name=self._config.runtime,
            version=self._described.version,
            delegate=self._described.delegate,
            core_mask=core_mask(self._cores),
            options=options_text(self._config, self._runtime.options),
        )

    @property
    def worker_pid(self) -> int:
        """The process id of the worker in use."""
        self._ready()
        return self._described.pid

    def _ready(self) -> WorkerClient:
        """The worker, started and opened if need be."""
        if self._client is None:
            client = self._start()
            try:
                answer = client.ask(
                    {
                        "do": "open",
                        "runtime": self._config.runtime,
                        "module": self._runtime.module,
                        "install": self._runtime.install,
                        "cores": list(self._cores),
                        "threads": self._config.threads,
                        "batch": self._config.batch,
                        "options": dict(self._config.options),
                        "cuda": self._cuda,
                    }
                )
                self._described = described(answer)
            except DeviceError:
                client.close()
                raise
            self._client = client
            self._processes += 1
        return self._client

    def measure(self, requests: Iterable[TimingRequest]) -> Iterator[Outcome]:
        for request in requests:
            yield self._timed(request, str)

    def _timed(self, request: TimingRequest, place: Callable[[Path], str]) -> Outcome:
        """Have the worker time one model; ``place`` tells where it finds a file."""
        client = self._ready()
        try:
            answer = client.ask(_wire(request, place), request.limit_seconds)
            outcome = outcome_of(request.id, answer, self._processes)
        except (WorkerDied, WorkerHung) as error:
            kind: FailureKind = "timeout" if isinstance(error, WorkerHung) else "crash"
            self._drop()
            return RequestFailure(request.id, kind, str(error), transient=True)
        if is_fatal(answer):
            self._drop()
        elif isinstance(outcome, Sample):
            self._throttled = "throttled" in outcome.flags
        return outcome

    def throttled(self) -> bool:
        return self._throttled

    def _drop(self) -> None:
        if self._client is not None:
            with contextlib.suppress(ProcessLookupError):
                self._client.kill()
            self._client.close()
            self._client = None

    def restart(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def close(self) -> None:
        self.restart()
        self._claim.close()


def _wire(request: TimingRequest, place: Callable[[Path], str]) -> dict[str, Any]:
    return {
        "do": "time",
        "id": request.id,
        "model": place(request.model),
        "seconds": request.seconds,
        "warmup_seconds": request.warmup_seconds,
        "block_seconds": request.block_seconds,
        "min_blocks": request.min_blocks,
        "keep": request.keep,
        "memory": request.memory,
    }
