"""torch.cuda, simulated: two clocks, a host that launches kernels and a device that runs them.

Tensors on the GPU are on torch's ``meta`` device: they have shapes and no data, so the real runtime
file, real modules and real kernels' order are used, and only arithmetic is left out. Each call of
a torch function is a kernel. Launching one takes the host ``launch_us``; the device begins it when
the host has launched it and the one before is done. A kernel takes time by its multiplications and
by the bytes it touches, at the clock that the scripted NVML shows. A captured graph is one launch.

What it does is scripted by the same file as the scripted NVML: ``lost`` (1: the card is gone),
``sim_fault`` (1: a kernel fails), ``sim_memory`` (bytes), ``sim_launch_us``, ``clock_mhz``.
"""

import contextlib
import os
import random
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, resolve_name

FULL_CLOCK_MHZ = 1980.0
KERNEL_US = 1.5
MACS_PER_US = 2.0e6
BYTES_PER_US = 1.0e6
GRAPH_LAUNCH_US = 6.0
L2_BYTES = 60 << 20
NOISE = 0.002
# On meta tensors torch runs these, and those below, through decompositions in Python, which takes
# long, and for some imports sympy or its compiler, which takes longer.
_LIKE_THEIR_FIRST = {"relu", "relu6", "hardswish", "hardsigmoid", "add", "mul", "roll"}
_OF_ANY_BATCH = {"conv2d", "linear", "mean"}
_WEIGHTED = {"conv2d", "linear"}
_NOT_KERNELS = {"to", "roll", "flatten", "__get__", "clone", "contiguous", "detach", "size"}


def scripted(name: str, default: float) -> float:
    """A number of the script, read anew."""
    lines = Path(os.environ["NVML_SCRIPT"]).read_text(encoding="utf-8").splitlines()
    found = dict(line.partition("=")[::2] for line in lines)
    return float(found.get(name) or default)


class SimulatedGpu:
    """The timelines, in microseconds."""

    def __init__(self) -> None:
        self.host_us = 0.0
        self.device_us = 0.0
        self.captured: list[float] | None = None
        self.random = random.Random(0)
        self.launch_us = scripted("sim_launch_us", 8.0)
        self.slowness = 1.0

    def look(self) -> None:
        """Take note of what the script says now; raises as torch does when the card is gone."""
        if scripted("lost", 0) or scripted("sim_fault", 0):
            raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might")
        self.slowness = FULL_CLOCK_MHZ / scripted("clock_mhz", FULL_CLOCK_MHZ)

    def kernel(self, cost_us: float) -> None:
        os.environ["NVML_OWN"] = "1"  # the driver lists a process once it has a context
        if self.captured is not None:
            self.captured.append(cost_us)
            return
        self.host_us += self.launch_us
        self.device_us = max(self.device_us, self.host_us) + cost_us * self.slowness

    def replay(self, kernels_us: float) -> None:
        self.host_us += GRAPH_LAUNCH_US
        self.device_us = max(self.device_us, self.host_us) + kernels_us * self.slowness


GPU = SimulatedGpu()


def kernel_us(name: str, output: torch.Tensor, arguments: tuple[Any, ...]) -> float:
    """How long a kernel takes: the slower of its arithmetic and its traffic, and its start."""
    tensors = [item for item in arguments if isinstance(item, torch.Tensor)]
    bytes_touched = sum(item.nbytes for item in [output, *tensors])
    macs = output.numel()
    if name in _WEIGHTED:
        macs *= tensors[1].numel() // tensors[1].shape[0]
    return KERNEL_US + max(macs / MACS_PER_US, bytes_touched / BYTES_PER_US)


def moved(value: Any) -> Any:
    """``meta`` where ``cuda`` was asked for."""
    if isinstance(value, str) and value.startswith("cuda"):
        return "meta"
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("meta")
    return value


def shaped(name: str, func: Any, args: Any, kwargs: Any) -> Any:
    """What a function gives; of tensors on the GPU the shape."""
    if name == "randn":
        return torch.empty(*args, **kwargs)
    if name in _LIKE_THEIR_FIRST and args[0].is_meta:
        return torch.empty(args[0].shape, dtype=args[0].dtype, device="meta")
    if name not in _OF_ANY_BATCH or not args[0].is_meta:
        return func(*args, **kwargs)
    # On the CPU no images take no time.
    features, *weights = (
        torch.empty(item.shape, dtype=item.dtype) if isinstance(item, torch.Tensor) else item
        for item in args
    )
    result = func(features[:0], *weights, **kwargs)
    return torch.empty((len(features), *result.shape[1:]), dtype=result.dtype, device="meta")


class OnGpu(TorchFunctionMode):
    """Sends what is for the GPU to it, and keeps its time."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {name: moved(value) for name, value in (kwargs or {}).items()}
        args = tuple(moved(value) for value in args)
        name = (resolve_name(func) or getattr(func, "__name__", "")).rsplit(".", 1)[-1]
        result = shaped(name, func, args, kwargs)
        if isinstance(result, torch.Tensor) and result.is_meta:
            if name == "to" and result.nbytes > scripted("sim_memory", 1e15):
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate much")
            if name not in _NOT_KERNELS:
                GPU.kernel(kernel_us(name, result, args))
        return result


class Event:
    def __init__(self, enable_timing: bool = False) -> None:
        self.at_us = 0.0

    def record(self) -> None:
        self.at_us = max(GPU.device_us, GPU.host_us)

    def synchronize(self) -> None:
        GPU.look()
        GPU.host_us = max(GPU.host_us, self.at_us)

    def elapsed_time(self, end: "Event") -> float:
        noise = 1.0 + NOISE * abs(GPU.random.gauss(0.0, 1.0))
        return (end.at_us - self.at_us) / 1e3 * noise


class CUDAGraph:
    kernels_us = 0.0

    def replay(self) -> None:
        GPU.replay(self.kernels_us)


@contextlib.contextmanager
def graph(captured: CUDAGraph) -> Any:
    GPU.captured = []
    try:
        yield
        captured.kernels_us = sum(GPU.captured)
    finally:
        GPU.captured = None


class Properties:
    L2_cache_size = L2_BYTES


def install() -> None:
    """Put the simulation in torch's place and keep it on for the life of the process."""
    torch.version.cuda = "simulated"
    replacements = {
        "init": GPU.look,
        "synchronize": GPU.look,
        "empty_cache": lambda: None,
        "Event": Event,
        "CUDAGraph": CUDAGraph,
        "graph": graph,
        "get_device_properties": lambda device: Properties,
    }
    for name, value in replacements.items():
        setattr(torch.cuda, name, value)
    mode: Any = OnGpu()
    mode.__enter__()
