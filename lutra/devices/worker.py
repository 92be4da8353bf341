"""The worker: times model files in a process of its own, spoken to in JSON lines.

Requests come on stdin, one answer each goes to stdout, in order::

    {"do": "open", "runtime": "onnxruntime", "cores": [1], "threads": 1, "batch": 1,
     "options": {}, "cuda": null}
    {"do": "time", "id": 7, "model": "/tmp/x.onnx", "seconds": 0.04, "warmup_seconds": 0.02,
     "block_seconds": 0.0005, "keep": false, "references": ["/tmp/r.onnx"]}

``cuda`` is the number of the GPU to work on, as nvidia-smi counts. An answer has ``ok``; where it
is false, ``kind`` and ``message`` say why, ``fatal`` that this process can do no more, and
``transient`` that a retry may help. Between requests the worker blocks on stdin and costs nothing;
it ends when stdin closes. Only the standard library, numpy and the runtime are imported, so that
the same files run on a board.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

from lutra.devices.device_timing import timed as timed_by_device
from lutra.devices.runtimes import load_runtime

_MAX_BLOCKS = 400
_MIN_BLOCKS = 3
_SETTLED = 0.02
_REFILL_BELOW_SECONDS = 0.001


class Worker:
    """State between requests: the runtime, and the models asked to be kept."""

    def __init__(self) -> None:
        self._runtime: Any = None
        self._settings: dict[str, Any] = {}
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
                from lutra.devices.gpu_watch import GpuWatch

                self._watch = GpuWatch(request["cuda"])
            self._runtime = load_runtime(request["runtime"], request["cuda"])
            self._settings = request
            described = self._runtime.describe(request)
            if self._watch is not None:
                self._watch.settled_in()
            return {"ok": True, "pid": os.getpid(), **described}
        except Exception as error:
            return _failure("load", f"runtime {request['runtime']}: {' '.join(str(error).split())}")

    def _time(self, request: dict[str, Any]) -> dict[str, Any]:
        path = request["model"]
        try:
            references = [self._kept_model(name).run for name in request["references"]]
            loading = time.perf_counter()
            model = self._kept.get(path) or self._runtime.load(path, self._settings)
        except Exception as error:
            return self._failed("load", error)
        loaded = time.perf_counter()
        try:
            answer = self._timed(model, references, request)
        except Exception as error:
            return self._failed("run", error)
        if request["keep"]:
            self._kept[path] = model
        else:
            model.unload()
        return {"ok": True, "load_seconds": loaded - loading, "nodes": model.nodes, **answer}

    def _timed(self, model: Any, references: list[Any], request: dict[str, Any]) -> dict[str, Any]:
        if self._watch is None:
            return _timed(model.run, references, request)
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

    def _kept_model(self, path: str) -> Any:
        if path not in self._kept:
            self._kept[path] = self._runtime.load(path, self._settings)
        return self._kept[path]


def _timed(run: Any, references: list[Any], request: dict[str, Any]) -> dict[str, Any]:
    """Warm up, choose the runs per block, then time blocks until the time is used."""
    begun = time.perf_counter()
    for reference in references:
        reference()
    run_seconds = _warm_up(run, request["warmup_seconds"])
    block_seconds = max(request["block_seconds"], request["seconds"] / _MAX_BLOCKS)
    runs = max(1, round(block_seconds / run_seconds))
    gc.disable()
    timed_from = time.perf_counter()
    refill = bool(references) and run_seconds < _REFILL_BELOW_SECONDS
    blocks: list[float] = []
    between: list[list[float]] = [[] for _ in references]
    for block_ms in _blocks(run, runs, request["seconds"], refill=refill):
        blocks.append(block_ms)
        for reference, seen in zip(references, between):  # noqa: B905  (boards have Python 3.8)
            reference()  # the model took its place in the caches: they tell of the machine only
            seen.append(_milliseconds(reference, 1))
    ended = time.perf_counter()
    gc.enable()
    return {
        "block_ms": blocks,
        "reference_ms": between,
        "runs_per_block": runs,
        "busy_seconds": ended - begun,
        "timed_seconds": ended - timed_from,
    }


def _warm_up(run: Any, seconds: float) -> float:
    """Run until two half-windows agree within 2 % or the time is used; return seconds per run."""
    clock = time.perf_counter
    deadline = clock() + seconds
    durations: list[float] = []
    while True:
        start = clock()
        run()
        end = clock()
        durations.append(end - start)
        half = len(durations) // 2
        settled = half >= 3 and abs(min(durations[half:]) / min(durations[:half]) - 1.0) < _SETTLED
        if (settled and len(durations) % 2 == 0) or (end >= deadline and len(durations) >= 2):
            return max(min(durations), 1e-9)


def _blocks(run: Any, runs: int, seconds: float, *, refill: bool) -> Iterator[float]:
    """Milliseconds per run of each block, until ``seconds`` are used.

    ``refill``: run once before each block, so that the caches hold this model again.
    """
    deadline = time.perf_counter() + seconds
    for block in itertools.count(1):
        if refill:
            run()
        yield _milliseconds(run, runs)
        if block >= _MIN_BLOCKS and time.perf_counter() >= deadline:
            return


def _milliseconds(run: Any, runs: int) -> float:
    """Milliseconds per run of ``runs`` in a row."""
    clock = time.perf_counter_ns
    start = clock()
    for _ in range(runs):
        run()
    return (clock() - start) / runs / 1e6


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


if __name__ == "__main__":
    main()
