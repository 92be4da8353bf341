"""CUDA's driver library that does as it is told, for child processes that load it by its name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.peers import roots

SOURCE = Path(__file__).with_name("cuda.c")
SONAME = "libcuda.so.1"


def available() -> str | None:
    """What is missing here to script the driver, in a line; None when nothing is."""
    if sys.platform != "linux":
        return "a scripted CUDA driver needs linux"
    return None if find_spec("ziglang") else "a scripted CUDA driver needs the package ziglang"


@cache
def cuda_library(*, before_12_8: bool = False) -> Path:
    """The scripted libcuda.so.1, compiled on first use and cached.

    ``before_12_8``: one that has no ``cuEventElapsedTime_v2``.
    """
    return roots.shared_library(SOURCE, SONAME, ["-DBEFORE_12_8"] if before_12_8 else [])


class ScriptedCuda:
    """A machine whose driver answers as its script says; keys are cuda.c's.

    This process never loads it: torch and onnxruntime would find it, and it does not compute.
    """

    def __init__(self, folder: Path, *, before_12_8: bool = False) -> None:
        self._library = cuda_library(before_12_8=before_12_8)
        self._script = folder / "cuda.script"
        self._calls = folder / "cuda.calls"
        self.set()

    def set(self, **state: object) -> None:
        """What the driver does from now on."""
        lines = [f"{key}={value}\n" for key, value in state.items()]
        self._script.write_text("".join([f"calls={self._calls}\n", *lines]))

    def environment(self) -> dict[str, str]:
        """The variables with which a child process finds it, before any real one."""
        folders = [str(self._library.parent), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        return {
            **os.environ,
            "LD_LIBRARY_PATH": os.pathsep.join(folders),
            "CUDA_SCRIPT": str(self._script),
        }

    def run(self, program: str) -> Any:
        """What a Python program in a child process prints, as JSON, on its last line."""
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True, text=True, check=False, timeout=100, env=self.environment(),
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return json.loads(done.stdout.splitlines()[-1])

    def calls(self) -> list[str]:
        """The driver's functions in the order in which they were called, so far."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []
