"""A session over a worker process: crashes and hangs turned into failures."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lutra.devices.base import (
    FailureKind,
    Outcome,
    RequestFailure,
    RuntimeInfo,
    Sample,
    Session,
    Setting,
    TimingRequest,
)
from lutra.devices.runtimes import RUNTIMES
from lutra.devices.worker_client import WorkerClient, WorkerDied, WorkerHung
from lutra.errors import PermanentDeviceError, TransientDeviceError, UsageError


class WorkerSession(Session):
    """Times models through the worker that ``start`` starts, anew whenever it is gone."""

    pairs = True

    def __init__(
        self, start: Callable[[], WorkerClient], setting: Setting, cores: tuple[int, ...]
    ) -> None:
        self._start = start
        self._setting = setting
        self._cores = cores
        self._client: WorkerClient | None = None
        self._processes = 0
        self._described: dict[str, Any] = {}

    def describe(self) -> RuntimeInfo:
        self._ready()
        return RuntimeInfo(
            name=self._setting.runtime,
            version=self._described["version"],
            delegate=self._described["delegate"],
            core_mask=f"{sum(1 << core for core in self._cores):x}" if self._cores else "any",
            options=_options_text(self._setting),
        )

    @property
    def worker_pid(self) -> int:
        """The process id of the worker in use."""
        return self._ready().pid

    def _ready(self) -> WorkerClient:
        """The worker, started and opened if need be."""
        if self._client is None:
            client = self._start()
            try:
                answer = client.ask(
                    {
                        "do": "open",
                        "runtime": self._setting.runtime,
                        "cores": list(self._cores),
                        "threads": self._setting.threads,
                        "batch": self._setting.batch,
                        "options": dict(self._setting.options),
                    }
                )
            except TransientDeviceError:
                client.close()
                raise
            if not answer.get("ok"):
                client.close()
                raise PermanentDeviceError(answer.get("message", "the runtime did not open"))
            self._client, self._described = client, answer
            self._processes += 1
        return self._client

    def measure(self, requests: Iterable[TimingRequest]) -> Iterator[Outcome]:
        for request in requests:
            client = self._ready()
            try:
                outcome = self._outcome(request, client.ask(_wire(request), request.limit_seconds))
            except (WorkerDied, WorkerHung) as error:
                kind: FailureKind = "timeout" if isinstance(error, WorkerHung) else "crash"
                outcome = RequestFailure(request.id, kind, str(error), transient=True)
                self._drop()
            yield outcome

    def _outcome(self, request: TimingRequest, answer: dict[str, Any]) -> Outcome:
        if not answer["ok"]:
            return RequestFailure(request.id, answer["kind"], answer["message"], transient=False)
        return Sample(
            request.id,
            tuple(answer["block_ms"]),
            answer["runs_per_block"],
            self._processes,
            answer["load_seconds"],
            answer["busy_seconds"],
            answer["timed_seconds"],
            tuple(answer["nodes"]) if answer["nodes"] else None,
            tuple(tuple(seen) for seen in answer["reference_ms"]),
        )

    def _drop(self) -> None:
        if self._client is not None:
            with contextlib.suppress(ProcessLookupError):
                self._client.kill()
            self._client.close()
            self._client = None

    def restart(self) -> None:
        self.close()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def check_setting(setting: Setting, spec: str) -> None:
    """Raise `UsageError` unless the worker knows the setting's runtime and its options."""
    if setting.runtime not in RUNTIMES:
        known = ", ".join(RUNTIMES)
        raise UsageError(f"unknown runtime '{setting.runtime}' for {spec}; known: {known}")
    options = RUNTIMES[setting.runtime].options
    for name, value in setting.options.items():
        if value not in options.get(name, ()):
            known = ", ".join(f"{key}={'|'.join(values)}" for key, values in options.items())
            raise UsageError(
                f"{setting.runtime} has no option '{name}={value}'; known: {known or 'none'}"
            )


def _options_text(setting: Setting) -> str:
    """The options that differ from the runtime's defaults, as a target records them."""
    defaults = {name: values[0] for name, values in RUNTIMES[setting.runtime].options.items()}
    chosen = sorted(setting.options.items())
    return ",".join(f"{name}={value}" for name, value in chosen if value != defaults[name])


def _wire(request: TimingRequest) -> dict[str, Any]:
    return {
        "do": "time",
        "id": request.id,
        "model": str(request.model),
        "seconds": request.seconds,
        "warmup_seconds": request.warmup_seconds,
        "block_seconds": request.block_seconds,
        "keep": request.keep,
        "references": [str(path) for path in request.references],
    }
