"""torch on an NVIDIA GPU: eager, compiled, or replayed as a CUDA graph.

Eager work is launched piece by piece by the host, which for small networks takes longer than the
work itself; a graph is launched whole. One graph holds a whole turn over the input buffers, so
that what it takes to launch it spreads over many runs.
"""

from __future__ import annotations

import re
from typing import Any

import torch

from lutra.devices.worker.runtimes import TORCH
from lutra.devices.worker.runtimes.rotation import buffer_count
from lutra.devices.worker.runtimes.torch_graph import load_module

_DEVICE = "cuda:0"  # the worker sees no other card than the one it was opened for
_TURNS_BEFORE_CAPTURE = 2
_RUNS_PER_GRAPH = 8  # at least, so that launching the graph does not count
_NO_ROOM = re.compile(r"out of memory|ALLOC_FAILED", re.IGNORECASE)


def describe(config: dict[str, Any]) -> dict[str, str]:
    """Versions, and how models run; raises RuntimeError where torch cannot use the GPU."""
    if torch.version.cuda is None:
        raise RuntimeError(
            f"torch {torch.__version__} is a build without CUDA; on Linux `pip install"
            f" --force-reinstall {TORCH}` from PyPI has it"
        )
    cuda: Any = torch.cuda
    cudnn: Any = torch.backends.cudnn
    cuda.init()  # says why, where there is no driver or one too old for this build
    options = config["options"]
    _set_arithmetic(options)
    _prove(options)
    ways = [
        "inductor" if options.get("compile") == "on" else "eager",
        "CUDA graph" if options.get("graph") == "on" else "",
    ]
    return {
        "version": f"{torch.__version__}, cuDNN {cudnn.version()}",
        "delegate": ", ".join(filter(None, ways)),
    }


def _prove(options: dict[str, str]) -> None:
    """Run something on the card: a build without its kernels, or a compiler that is missing, shows.

    The process is a user of the card from here on, which `gpu_watch` must know.
    """
    layer: Any = torch.nn.Conv2d(8, 8, 3).to(_DEVICE)
    if options.get("compile") == "on":
        layer = torch.compile(layer, dynamic=False)
    with torch.inference_mode():
        layer(torch.zeros(1, 8, 8, 8, device=_DEVICE))
    torch.cuda.synchronize()


def fatal(error: BaseException) -> bool:
    """Whether the process cannot use the GPU any more after this error: the card is asked."""
    try:
        torch.cuda.synchronize()
    except Exception:
        return True
    return False


def out_of_memory(error: BaseException) -> bool:
    """Whether the card had no room for the model, or for CUDA's own libraries."""
    return _NO_ROOM.search(str(error)) is not None


def load(path: str, config: dict[str, Any]) -> TorchModel:
    """The module of a torch model file on the GPU, captured and compiled as the options say."""
    options = config["options"]
    torch.cuda.empty_cache()  # what the model before took
    memory_format = (
        torch.channels_last if options.get("layout") == "channels_last" else torch.contiguous_format
    )
    module = load_module(path)
    inputs = [
        features.to(memory_format=memory_format)
        for features in _inputs(module.input_shape, module.dtype, options)
    ]
    placed: Any = module
    placed = placed.to(_DEVICE, memory_format=memory_format)
    compiled = options.get("compile") == "on"
    if compiled:
        placed = torch.compile(placed, dynamic=False)
    with torch.inference_mode():
        turn = Turn(placed, inputs)
        for _ in range(_TURNS_BEFORE_CAPTURE):  # compiles, and lets cuDNN choose its algorithms
            turn()
        torch.cuda.synchronize()
        replay = Timed(Replay(turn))
    if options.get("graph") == "on":
        return TorchModel(replay, None, compiled=compiled)
    return TorchModel(Timed(turn), replay, compiled=compiled)


class Turn:
    """One run on each of the input buffers, launched by the host."""

    def __init__(self, module: Any, inputs: list[torch.Tensor]) -> None:
        self._module = module
        self._inputs = inputs
        self.runs = len(inputs)

    def __call__(self) -> None:
        for features in self._inputs:
            self._module(features)


class Replay:
    """A turn captured as one CUDA graph."""

    def __init__(self, turn: Turn) -> None:
        self.runs = turn.runs
        self._turn = turn  # its buffers must outlive the graph
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            turn()

    def __call__(self) -> None:
        self._graph.replay()


class Timed:
    """Turns between two events of the device."""

    def __init__(self, turn: Any) -> None:
        self._turn = turn
        cuda: Any = torch.cuda
        self._start, self._end = (cuda.Event(enable_timing=True) for _ in range(2))
        self.runs_at_once: int = turn.runs

    def milliseconds(self, runs: int) -> float:
        """Milliseconds per run of ``runs`` in a row, a multiple of ``runs_at_once``."""
        with torch.inference_mode():
            self._start.record()
            for _ in range(runs // self.runs_at_once):
                self._turn()
            self._end.record()
        self._end.synchronize()
        elapsed: float = self._start.elapsed_time(self._end)
        return elapsed / runs


class TorchModel:
    """A loaded model, timed by the device's clock."""

    nodes: tuple[int, int] | None = None

    def __init__(self, timed: Timed, replay: Timed | None, *, compiled: bool) -> None:
        self._timed = timed
        self._compiled = compiled
        self.replay = replay
        self.runs_at_once = timed.runs_at_once
        self.milliseconds = timed.milliseconds

    def unload(self) -> None:
        """Free the module, its graph, and what was compiled for it."""
        del self._timed, self.replay, self.milliseconds
        if self._compiled:
            torch.compiler.reset()


def _inputs(
    shape: tuple[int, ...], dtype: torch.dtype, options: dict[str, str]
) -> list[torch.Tensor]:
    torch.manual_seed(0)
    first = torch.randn(shape, dtype=dtype, device=_DEVICE)
    cache_bytes = torch.cuda.get_device_properties(_DEVICE).L2_cache_size
    chosen = options.get("inputs", "rotating")
    if chosen == "same":
        return [first] * _RUNS_PER_GRAPH
    count = buffer_count(first.nbytes, cache_bytes, chosen)
    return [first.roll(position, -1) for position in range(count)]


def _set_arithmetic(options: dict[str, str]) -> None:
    """fp32 is fp32 unless TF32 is asked for: torch's default for convolutions is TF32."""
    tf32 = options.get("tf32") == "on"
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = options.get("autotune") == "on"
