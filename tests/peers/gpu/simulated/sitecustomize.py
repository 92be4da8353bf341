"""Python imports this at its start where this folder is on its path: workers get a GPU."""

import importlib
import sys

if any("lutra.devices.worker" in word for word in sys.orig_argv):
    importlib.import_module("torch_on_simulated_gpu").install()
