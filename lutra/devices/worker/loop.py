"""The worker's loop: requests in JSON lines, one answer each.

Requests come on stdin, one answer each goes to stdout, in order::

    {"do": "open", "runtime": "onnxruntime", "cores": [1], "threads": 1, "batch": 1,
     "module": "lutra.devices.worker.runtimes.onnxruntime", "install": "onnxruntime",
     "options": {}, "cuda": null}
    {"do": "time", "id": 7, "model": "/tmp/x.onnx", "seconds": 0.04, "warmup_seconds": 0.02,
     "block_seconds": 0.0005, "min_blocks": 3, "keep": false, "memory": false}

``module`` times the runtime, and ``install`` is what pip calls the package that it needs.
``cuda`` is the number of the GPU to work on, as nvidia-smi counts. ``memory`` asks also what the
process grew by: its first model must be this one. An answer has ``ok``; where it
is false, ``kind`` and ``message`` say why, ``fatal`` that this process can do no more, and
``transient`` that a retry may help. Between requests the worker blocks on stdin and costs nothing;
it ends when stdin closes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, TextIO

from lutra.devices.worker.device_timing import timed_by_device
from lutra.devices.worker.high_water import HighWater
from lutra.devices.worker.host_timing import timed_by_host
from lutra.devices.worker.runtimes import load_runtime
from lutra.devices.worker.system_counts import has_room


class Worker:
    """State between requests: the runtime, and the models asked to be kept."""

    def __init__(self) -> None:
        self._runtime: Any = None
        self._config: dict[str, Any] = {}
        self._kept: dict[str, Any] = {}
        self._watch: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request; failures are answers too."""
        handler = {"open": self._open, "time": self._time}.get(request.get("do", ""))
        if handler is None:
            return _failure("run", f"unknown request {request.get('do')!r}")
        return handler(request)

    def _open(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            if request["cores"] and hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, request["cores"])
        except OSError as error:
            return _failure("load", f"cannot pin to the cores {request['cores']}: {error.strerror}")
        try:
            if request["cuda"] is not None:
                from lutra.devices.worker.gpu_watch import GpuWatch

                self._watch = GpuWatch(request["cuda"])
            self._runtime = load_runtime(request["module"], request["install"])
            self._config = request
            described = self._runtime.describe(request)
            if self._watch is not None:
                self._watch.settled_in()
            return {"ok": True, "pid": os.getpid(), **described}
        except Exception as error:
            return _failure("load", f"runtime {request['runtime']}: {' '.join(str(error).split())}")

    def _time(self, request: dict[str, Any]) -> dict[str, Any]:
        path = request["model"]
        memory = HighWater() if request["memory"] and self._watch is None else None
        try:
            loading = time.perf_counter()
            model = self._kept.get(path) or self._runtime.load(path, self._config)
        except Exception as error:
            return self._failed("load", error)
        loaded = time.perf_counter()
        if memory is not None:
            memory.loaded()
        try:
            answer = self._timed(model, request)
        except Exception as error:
            return self._failed("run", error)
        if memory is not None:
            answer["memory"] = memory.grown()
        if path in self._kept or (request["keep"] and has_room()):
            self._kept[path] = model
        else:
            model.unload()
        return {"ok": True, "load_seconds": loaded - loading, "nodes": model.nodes, **answer}

    def _timed(self, model: Any, request: dict[str, Any]) -> dict[str, Any]:
        if self._watch is None:
            return timed_by_host(model.run, request, self._config["threads"])
        answer = timed_by_device(model, request, self._watch.clock_mhz)
        return {**answer, "flags": self._watch.flags()}

    def _failed(self, kind: str, error: Exception) -> dict[str, Any]:
        """The answer to an error of the runtime's; some end what a process can do on a GPU."""
        if self._watch is None:
            return _failure(kind, _one_line(error))
        failure = _failure(kind, _first_line(error))  # torch's others are advice to its developers
        if self._runtime.out_of_memory(error):
            shared = "shared" in self._watch.flags()
            blame = "another process uses it too" if shared else "a smaller --batch needs less"
            message = f"the GPU has no memory left, {blame}: {failure['message']}"
            return {**failure, "message": message[:500], "transient": shared}
        return {**failure, "fatal": self._watch.is_lost(error) or self._runtime.fatal(error)}


def _failure(kind: str, message: str) -> dict[str, Any]:
    return {"ok": False, "kind": kind, "message": message}


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500]


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:500]


def _protocol_stream() -> TextIO:
    """A private copy of stdout; what a runtime prints there goes to stderr instead."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return stream


def main() -> None:
    """Answer requests until stdin closes."""
    answers = _protocol_stream()
    worker = Worker()
    for line in sys.stdin:
        answers.write(json.dumps(worker.answer(json.loads(line))) + "\n")
        answers.flush()
