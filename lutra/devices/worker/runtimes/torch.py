"""torch on the CPU: eager, or through ``torch.compile``.

glibc's malloc gives large blocks back to the system after each use; an eager forward then costs
thousands of page faults, up to four times its own time, depending on what ran before. Keeping
freed memory removes that.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from typing import Any

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_KEEP_BYTES = 1 << 30
_TOP_PAD_BYTES = 64 << 20
_LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc takes no more


def _keep_freed_memory() -> None:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # no glibc
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
    mallopt(_M_TOP_PAD, _TOP_PAD_BYTES)


_keep_freed_memory()

import torch  # noqa: E402  (after malloc is set)

from lutra.devices.worker.runtimes.torch_graph import GraphModule, load_module  # noqa: E402


def describe(config: dict[str, Any]) -> dict[str, str]:
    """Version, and ``eager`` or ``inductor``; raises RuntimeError without a C++ compiler for it."""
    compiled = _compiled(config)
    if compiled and not shutil.which(os.environ.get("CXX", "g++")):
        raise RuntimeError("torch.compile needs a C++ compiler (g++, or set CXX)")
    return {"version": torch.__version__, "delegate": "inductor" if compiled else "eager"}


def load(path: str, config: dict[str, Any]) -> TorchModel:
    """The module of a torch model file, compiled if the options say so."""
    torch.set_num_threads(config["threads"])
    module = load_module(path)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(module.input_shape, generator=generator).to(module.dtype)
    model = TorchModel(module, features, compile_module=_compiled(config))
    model.run()  # compiles
    return model


class TorchModel:
    """A module with its input, ready to run."""

    nodes: tuple[int, int] | None = None

    def __init__(
        self, module: GraphModule, features: torch.Tensor, *, compile_module: bool
    ) -> None:
        self._module: Any = torch.compile(module) if compile_module else module
        self._compiled = compile_module
        self._features = features

    def run(self) -> None:
        """One inference."""
        with torch.inference_mode():
            self._module(self._features)

    def unload(self) -> None:
        """Free the module, and what was compiled for it."""
        del self._module
        if self._compiled:
            torch.compiler.reset()


def _compiled(config: dict[str, Any]) -> bool:
    return bool(config["options"].get("compile") == "on")
