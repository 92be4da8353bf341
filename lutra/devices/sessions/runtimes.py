"""The runtimes that a worker can time: ours, and those of other packages.

Another package declares an entry point of the group ``lutra.runtimes``: its name is the runtime's,
its object a `Runtime` (docs/add-a-runtime.md).
"""

from __future__ import annotations

from importlib.util import find_spec

from lutra.devices.options import Options
from lutra.devices.worker.runtimes import CUDA_RUNTIMES, RUNTIMES, Runtime
from lutra.errors import UsageError
from lutra.plugins import load_plugin, plugin_names

_GROUP = "lutra.runtimes"


def known_runtimes(cuda: int | None = None) -> dict[str, Runtime]:
    """Every runtime of the CPU, or with the number of a GPU those of NVIDIA GPUs, by name.

    Raises `UsageError` where another package's runtime cannot be loaded.
    """
    if cuda is not None:
        return CUDA_RUNTIMES
    return {**RUNTIMES, **{name: _added(name) for name in plugin_names(_GROUP)}}


def _added(name: str) -> Runtime:
    runtime = load_plugin(_GROUP, name)
    if not isinstance(runtime, Runtime):
        raise UsageError(f"the runtime '{name}' of another package is no Runtime: {runtime!r:.80}")
    return runtime


def installed_runtimes() -> tuple[str, ...]:
    """The runtimes whose package is installed here; whether one works, a session says."""
    found = known_runtimes().items()
    return tuple(name for name, runtime in found if find_spec(runtime.package))


def runtime_options(cuda: int | None = None) -> dict[str, Options]:
    """The options of every runtime that the worker knows, on the CPU or on a GPU."""
    return {name: runtime.options for name, runtime in known_runtimes(cuda).items()}
