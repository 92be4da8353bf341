"""Whether tests can have a real NVIDIA card, and if not, why."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_COUNT = "from lutra.devices.worker.cuda_driver import open_stream; open_stream(0)"


def why_no_card(*packages: str) -> str | None:
    """What is missing for tests on a card, in a line; None when nothing is.

    ``packages``, of ``torch`` and ``onnxruntime``, must be builds for CUDA; all, if none is named.
    """
    checks = {"torch": _why_no_torch, "onnxruntime": _why_no_onnxruntime}
    reasons = [why_no_driver(), *(checks[name]() for name in packages or checks)]
    return next(filter(None, reasons), None)


@cache
def why_no_driver() -> str | None:
    """Why CUDA's driver does not work; asked in another process, to keep this one without CUDA."""
    done = subprocess.run(
        [sys.executable, "-c", _COUNT], capture_output=True, text=True, check=False, timeout=100
    )
    if done.returncode == 0:
        return None
    return done.stderr.strip().splitlines()[-1].partition("CudaError: ")[2] or "CUDA does not work"


@cache
def _why_no_torch() -> str | None:
    """Read from its file: importing torch takes seconds."""
    folder = _folder("torch")
    if folder is None:
        return "torch is not installed"
    version = (folder / "version.py").read_text()
    built_for = re.search(r"^cuda\b.*= *'", version, re.MULTILINE)
    return None if built_for else "this torch is a build without CUDA"


@cache
def _why_no_onnxruntime() -> str | None:
    folder = _folder("onnxruntime")
    if folder is None:
        return "onnxruntime-gpu is not installed"
    provider = folder / "capi" / "libonnxruntime_providers_cuda.so"
    return None if provider.exists() else "this onnxruntime has no CUDAExecutionProvider"


def _folder(package: str) -> Path | None:
    found = find_spec(package)
    return Path(found.origin).parent if found and found.origin else None
