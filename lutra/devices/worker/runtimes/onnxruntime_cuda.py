"""onnxruntime on an NVIDIA GPU: its CUDA provider, or TensorRT's.

A provider that cannot work is replaced by the CPU in silence, and so is a node that it does not
take; here both are errors. Runs are queued on a stream of ours without waiting for any of them,
and timed by the device's own clock. Inputs and outputs stay on the device.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnxruntime

from lutra.devices.worker.cuda_driver import (
    FATAL,
    OUT_OF_MEMORY,
    CudaError,
    Stream,
    driver_version,
    l2_bytes,
    open_stream,
)
from lutra.devices.worker.runtimes.onnx_inputs import numpy_type, random_inputs
from lutra.devices.worker.runtimes.rotation import buffer_count

if TYPE_CHECKING:  # numpy has it since 1.20
    import numpy.typing as npt

onnxruntime.set_default_logger_severity(3)

_PIP_INSTALL = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
_DEVICE = 0  # the worker sees no other card than the one it was opened for
_PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_CUDA, _TENSORRT = _PROVIDERS.values()
_LIBRARIES = {_CUDA: "cuda", _TENSORRT: "tensorrt"}  # libonnxruntime_providers_*.so
_ONE_RELU = (  # the smallest model, to see that a provider takes one
    b'\x08\x08:3\n\x0c\n\x01x\x12\x01y"\x04Relu\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02'
    b"\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
_NO_GRAPH = -1  # a run's gpu_graph_id: neither capture nor replay
_TURNS_AT_LOAD = 2  # the first chooses algorithms and captures, the second is like all later ones

# cuda_call.cc: "CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=..."
_FAILURE = re.compile(r"\b([A-Z_]+ failure \d+: [^;]*?) ; GPU=(?:.*; expr=([^;]*);)?", re.DOTALL)
_NODE = re.compile(r"running (\w+ node\. Name:'[^']*')")
_CUDA_CODE = re.compile(r"\bCUDA (?:failure|error:?) (\d+)")
_FATAL_TEXTS = (
    *("cudaErrorIllegalAddress", "an illegal memory access was encountered"),
    *("cudaErrorLaunchFailure", "unspecified launch failure"),
    *("cudaErrorMisalignedAddress", "misaligned address"),
    *("cudaErrorECCUncorrectable", "uncorrectable ECC error"),
    *("cudaErrorAssert", "device-side assert"),
)
_CAPTURE_ERRORS = frozenset(range(900, 909))  # the stream stays in a capture that nobody ends
_OUT_OF_MEMORY = re.compile(
    rf"Failed to allocate memory|CUDA (?:failure|error:?) {OUT_OF_MEMORY}\b|out of memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_\w*ALLOC\w*_FAILED|std::bad_alloc",
    re.IGNORECASE,
)


class Place(NamedTuple):
    """Where a model's buffers are, in onnxruntime's words."""

    device: str
    number: int


def describe(config: dict[str, Any]) -> dict[str, str]:
    """Versions and provider; raises RuntimeError, with the remedy, where that does not work."""
    provider = _provider(config)
    _make_ready(config, provider)
    _require_driver()
    try:
        _session(_ONE_RELU, config, provider, half=False)
    except Exception as error:
        raise RuntimeError(_why(provider, error)) from error
    graph = ", graph" if config["options"].get("graph") == "on" else ""
    return {"version": onnxruntime.__version__, "delegate": provider + graph}


def load(path: str, config: dict[str, Any]) -> OnnxruntimeModel:
    """A session for the model file, whose buffers are on the device, after its first runs."""
    provider = _provider(config)
    _make_ready(config, provider)
    options = config["options"]
    with _told_briefly():
        half = provider == _TENSORRT and _reads_half(path)
        session = _session(path, config, provider, half=half)
        inputs = random_inputs(session)
        size = sum(array.nbytes for array in inputs.values())
        buffers = buffer_count(size, l2_bytes(_DEVICE), options.get("inputs", "rotating"))
        graph = options.get("graph") == "on"
        place = Place("cuda", _DEVICE)
        return OnnxruntimeModel(session, _stream(), inputs, place, buffers=buffers, graph=graph)


class OnnxruntimeModel:
    """A loaded model with random inputs on the device; its runs rotate over their buffers.

    With ``graph``, the provider captures one CUDA graph for each buffer and replays it.
    """

    nodes: tuple[int, int] | None = None
    replay: OnnxruntimeModel | None = None

    def __init__(
        self,
        session: Any,
        stream: Stream,
        inputs: dict[str, npt.NDArray[Any]],
        place: Place,
        *,
        buffers: int,
        graph: bool,
    ) -> None:
        self._session, self._stream = session, stream
        self._outputs = {value.name: _space(value, place) for value in session.get_outputs()}
        self._turn = [
            (self._bound(inputs, place), _run_options(position if graph else _NO_GRAPH))
            for position in range(1, buffers + 1)  # the graph with number 0 is onnxruntime's own
        ]
        self.runs_at_once = buffers
        self._next = 0
        self._queue_turns(_TURNS_AT_LOAD)
        self._stream.synchronize()

    def milliseconds(self, runs: int) -> float:
        """Milliseconds per run of ``runs`` in a row, a multiple of ``runs_at_once``."""
        turns, rest = divmod(runs, self.runs_at_once)
        if turns < 1 or rest:
            raise ValueError(f"{runs} runs are no multiple of {self.runs_at_once}")
        with _told_briefly():
            return self._stream.milliseconds(lambda: self._queue_turns(turns)) / runs

    def run(self) -> None:
        """One inference, on the next buffer; it is done when this returns."""
        with _told_briefly():
            self._session.run_with_iobinding(*self._turn[self._next])
            self._stream.synchronize()
        self._next = (self._next + 1) % self.runs_at_once

    def outputs(self) -> dict[str, npt.NDArray[Any]]:
        """What the last run computed."""
        self._stream.synchronize()
        return {name: value.numpy() for name, value in self._outputs.items()}

    def unload(self) -> None:
        """Free the session and the buffers."""
        self._stream.synchronize()
        del self._turn, self._outputs, self._session

    def _queue_turns(self, turns: int) -> None:
        run = self._session.run_with_iobinding
        for _ in range(turns):
            for binding, options in self._turn:
                run(binding, options)

    def _bound(self, inputs: dict[str, npt.NDArray[Any]], place: Place) -> Any:
        binding = self._session.io_binding()
        for name, array in inputs.items():
            # On the CPU the buffer would be the array itself.
            value = onnxruntime.OrtValue.ortvalue_from_numpy(array.copy(), *place)
            binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            binding.bind_ortvalue_output(name, value)
        return binding


def fatal(error: BaseException) -> bool:
    """Whether this process cannot use the GPU any more after the error."""
    if isinstance(error, CudaError):
        return error.fatal or error.code in _CAPTURE_ERRORS
    text = str(error)
    codes = {int(code) for code in _CUDA_CODE.findall(text)}
    if codes & (FATAL | _CAPTURE_ERRORS) or any(mark in text for mark in _FATAL_TEXTS):
        return True
    return _is_lost()


def out_of_memory(error: BaseException) -> bool:
    """Whether the card had no room for the model."""
    if isinstance(error, CudaError):
        return error.code == OUT_OF_MEMORY
    return isinstance(error, MemoryError) or bool(_OUT_OF_MEMORY.search(str(error)))


def _provider(config: dict[str, Any]) -> str:
    """The provider that the options name; RuntimeError where this onnxruntime lacks it."""
    options = config["options"]
    provider = _PROVIDERS[options.get("provider", "cuda")]
    if provider not in onnxruntime.get_available_providers():
        raise RuntimeError(
            f"this onnxruntime {onnxruntime.__version__} has no {provider}; `pip uninstall -y"
            f" onnxruntime onnxruntime-gpu && {_PIP_INSTALL}` (both"
            " packages use one folder, and onnxruntime is for the CPU alone)"
        )
    if provider == _TENSORRT and options.get("graph") == "on" and options.get("inputs") != "same":
        raise RuntimeError(
            "TensorRT captures one graph per model, with one input: graph=on with"
            " provider=tensorrt needs inputs=same"
        )
    return provider


def _make_ready(config: dict[str, Any], provider: str) -> None:
    """Load the libraries that pip installs where the loader does not look."""
    if provider == _TENSORRT:  # it has no option for this, and TF32 is its default
        os.environ.pop("NVIDIA_TF32_OVERRIDE", None)
        if config["options"].get("tf32") != "on":
            os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    _preload(provider)


@lru_cache
def _preload(provider: str) -> None:
    with contextlib.redirect_stdout(sys.stderr):  # it prints what it misses
        if hasattr(onnxruntime, "preload_dlls"):  # since 1.21
            onnxruntime.preload_dlls()
    if provider == _TENSORRT:
        with contextlib.suppress(ImportError, OSError, RuntimeError):
            import_module("tensorrt")  # it loads its libraries; nothing else is asked of it


def _require_driver() -> None:
    """Raise `CudaError` without driver or card, RuntimeError where the driver is too old."""
    _stream()
    major, minor = driver_version()
    if major < int(_built_for().split(".")[0]):
        raise RuntimeError(
            f"the NVIDIA driver is too old: it supports CUDA {major}.{minor}, and this"
            f" onnxruntime-gpu {onnxruntime.__version__} needs CUDA {_built_for()}; update the"
            f" driver, or install an onnxruntime-gpu for CUDA {major}"
        )


@lru_cache
def _stream() -> Stream:
    """The process's stream on its card: sessions use it until they end, so it stays open."""
    return open_stream(_DEVICE)


def _is_lost() -> bool:
    """Ask the driver: the error that ended the context is its answer to every call."""
    try:
        _stream().synchronize()
    except CudaError as error:
        return error.fatal or error.code in _CAPTURE_ERRORS
    return False


def _session(model: str | bytes, config: dict[str, Any], provider: str, *, half: bool) -> Any:
    """A session on the provider alone; raises ValueError where that left work to the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = config["threads"]
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    choices = _provider_options(config, provider, half=half)
    try:
        session = onnxruntime.InferenceSession(
            model, options, providers=[(provider, choices)], enable_fallback=0
        )
    except Exception as error:
        if "fallback to CPU EP has been explicitly disabled" not in str(error):
            raise
        raise ValueError(
            f"{provider} does not take all of the model's operators, and none may run on the CPU"
        ) from error
    first = session.get_providers()[0]
    if first != provider:
        raise ValueError(f"onnxruntime chose {first} instead of {provider}; its log says why")
    return session


def _provider_options(config: dict[str, Any], provider: str, *, half: bool) -> dict[str, str]:
    options = config["options"]
    graph = options.get("graph") == "on"
    common = {
        "device_id": str(_DEVICE),
        "has_user_compute_stream": "1",
        "user_compute_stream": str(_stream().handle),
    }
    if provider == _TENSORRT:  # it knows "True" and "False" alone
        return {
            **common,
            "trt_fp16_enable": str(half),
            "trt_engine_cache_enable": "False",
            "trt_timing_cache_enable": "False",
            "trt_cuda_graph_enable": str(graph),
        }
    return {
        **common,
        "use_tf32": str(int(options.get("tf32") == "on")),
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "enable_cuda_graph": str(int(graph)),
    }


def _reads_half(path: str) -> bool:
    """Whether the model's inputs are float16: only then may TensorRT compute in it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return any(value.type == "tensor(float16)" for value in session.get_inputs())


def _space(value: Any, place: Place) -> Any:
    """Room on the device for an output."""
    if not all(isinstance(size, int) for size in value.shape):
        raise ValueError(f"output {value.name} has the dynamic shape {value.shape}; fix its sizes")
    dtype = np.dtype(numpy_type(value, "output")).type
    return onnxruntime.OrtValue.ortvalue_from_shape_and_type(value.shape, dtype, *place)


def _run_options(graph_id: int) -> Any:
    """For runs that are only queued, and that replay the graph with this number.

    A number belongs to every run: from Python, onnxruntime 1.31 takes 0.1 ms to miss it.
    """
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    options.add_run_config_entry("gpu_graph_id", str(graph_id))
    return options


def _why(provider: str, error: Exception) -> str:
    """Why the provider does not work here, in a line: onnxruntime tells that only to its log."""
    missing = _missing_library(provider)
    if missing is None:
        return f"{provider} does not work here: {_briefly(error)}"
    return f"{provider} does not load: {missing}; {_remedy(missing)}"


def _remedy(missing: str) -> str:
    """What brings the library that the loader misses."""
    match = re.match(r"lib(?:nvinfer|nvonnxparser)\S*\.so\.(\d+)", missing)
    if match is None:
        return f"`{_PIP_INSTALL}` brings CUDA's and cuDNN's libraries"
    cuda = _built_for().split(".")[0]
    return f"`pip install 'tensorrt-cu{cuda}=={match[1]}.*'` brings it, a newer one does not"


def _built_for() -> str:
    """The CUDA that this onnxruntime was built for; 12 where it does not tell."""
    return getattr(onnxruntime, "cuda_version", "") or "12"


def _missing_library(provider: str) -> str | None:
    """What the loader says of the provider's library, None where nothing is wrong with it."""
    folder = Path(onnxruntime.__file__).parent / "capi"
    try:
        for name in ("shared", _LIBRARIES[provider]):  # the second looks for the first's functions
            ctypes.CDLL(str(folder / f"libonnxruntime_providers_{name}.so"), ctypes.RTLD_GLOBAL)
    except OSError as error:
        return str(error)
    return None


@contextlib.contextmanager
def _told_briefly() -> Iterator[None]:
    """Have errors say what CUDA said, and not which machine and source file said it."""
    try:
        yield
    except Exception as error:
        if _FAILURE.search(str(error)) is None:
            raise
        raise RuntimeError(_briefly(error)) from error


def _briefly(error: Exception) -> str:
    text = str(error)
    failure = _FAILURE.search(text)
    if failure is None:
        return " ".join(text.split())
    node = _NODE.search(text)
    where = [f"in {failure[2]}" if failure[2] else "", f"while running {node[1]}" if node else ""]
    return " ".join(filter(None, [failure[1].strip(), *where]))
