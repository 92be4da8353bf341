"""Runtimes that the worker can time, one small file each.

A runtime module offers ``describe(settings) -> dict`` (version, delegate) and
``load(path, settings) -> Model``; a model has ``run()`` and ``unload()``. ``settings`` is the
dictionary of the worker's ``open`` request: ``threads``, ``batch``, ``options``. These files
import only the standard library, numpy and the runtime they time: they also run on boards.
"""

from importlib import import_module
from types import ModuleType

RUNTIMES = {"onnxruntime": "lutra.devices.runtimes.onnxruntime"}


def load_runtime(name: str) -> ModuleType:
    """The module of a runtime; raises KeyError for an unknown name, ImportError if missing."""
    return import_module(RUNTIMES[name])
