"""lutra: measured latency tables of your own device, and the best subnet under your budget.

>>> import lutra
>>> summary = lutra.profile("cpu", "ofa-mbv3-w1.0", "cpu.lut")
>>> fit = lutra.calibrate("cpu.lut", networks=4)
>>> result = lutra.find_networks("cpu.lut", max_latency_ms=5)
>>> result = lutra.verify(result)
>>> metadata = lutra.export(result, "model.onnx")

Nothing is imported before it is used: ``lutra.devices.worker`` also runs on boards that have
Python 3.8 and no other package.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lutra.devices.registry import open_device as open_device
    from lutra.errors import AccuracyError as AccuracyError
    from lutra.errors import CheckpointError as CheckpointError
    from lutra.errors import DataError as DataError
    from lutra.errors import DeviceError as DeviceError
    from lutra.errors import InfeasibleError as InfeasibleError
    from lutra.errors import LutraError as LutraError
    from lutra.errors import MissingOpError as MissingOpError
    from lutra.errors import ModelError as ModelError
    from lutra.errors import NotATableError as NotATableError
    from lutra.errors import PermanentDeviceError as PermanentDeviceError
    from lutra.errors import ResultError as ResultError
    from lutra.errors import TableError as TableError
    from lutra.errors import TableVersionError as TableVersionError
    from lutra.errors import TableWriteError as TableWriteError
    from lutra.errors import TargetMismatchError as TargetMismatchError
    from lutra.errors import TrainingError as TrainingError
    from lutra.errors import TransientDeviceError as TransientDeviceError
    from lutra.errors import UsageError as UsageError
    from lutra.inspection.diff import diff_tables as diff_tables
    from lutra.inspection.lint import lint_table as lint_table
    from lutra.inspection.merge import merge_tables as merge_tables
    from lutra.interchange.export_table import export_table as export_table
    from lutra.interchange.import_networks import table_from_networks as table_from_networks
    from lutra.interchange.import_table import import_table as import_table
    from lutra.interchange.networks_to_time import write_networks as write_networks
    from lutra.packing.pack import pack as pack
    from lutra.packing.pack import unpack as unpack
    from lutra.predictors.accuracy.loading import load_accuracy as load_accuracy
    from lutra.predictors.efficiency.predictor import EfficiencyPredictor as EfficiencyPredictor
    from lutra.profiler.networks.calibration import calibrate as calibrate
    from lutra.profiler.networks.calibration import validate as validate
    from lutra.profiler.networks.model_files import profile_models as profile_models
    from lutra.profiler.profile import profile as profile
    from lutra.profiler.stopping import Again as Again
    from lutra.profiler.watch import Progress as Progress
    from lutra.profiler.watch import Watch as Watch
    from lutra.report.write import write_report as write_report
    from lutra.search.export import export as export
    from lutra.search.find import find_networks as find_networks
    from lutra.search.fronts.find import find_front as find_front
    from lutra.search.measuring.closed_loop import find_within_budget as find_within_budget
    from lutra.search.measuring.verification import verify as verify
    from lutra.search.result import SearchResult as SearchResult
    from lutra.search.training.shrink import shrink as shrink
    from lutra.search.training.single_path import train_single_path as train_single_path
    from lutra.search.training.user_module import prune_module as prune_module
    from lutra.spaces.registry import get_space as get_space
    from lutra.supernets.checkpoints.network import network_space as network_space
    from lutra.supernets.deployment.clustering import cluster as cluster
    from lutra.supernets.deployment.file_accuracy import evaluate as evaluate
    from lutra.supernets.deployment.module_file import save_module as save_module
    from lutra.supernets.deployment.tuned_network import fine_tune_network as fine_tune_network
    from lutra.supernets.quantization.quantize import quantize as quantize
    from lutra.supernets.training.train import train_supernet as train_supernet
    from lutra.tables.table import LatencyTable as LatencyTable

__version__ = "0.4.0"

_HOMES = {
    "lutra.devices.registry": ("open_device",),
    "lutra.errors": (
        "AccuracyError",
        "CheckpointError",
        "DataError",
        "DeviceError",
        "InfeasibleError",
        "LutraError",
        "MissingOpError",
        "ModelError",
        "NotATableError",
        "PermanentDeviceError",
        "ResultError",
        "TableError",
        "TableVersionError",
        "TableWriteError",
        "TargetMismatchError",
        "TrainingError",
        "TransientDeviceError",
        "UsageError",
    ),
    "lutra.interchange.import_networks": ("table_from_networks",),
    "lutra.inspection.diff": ("diff_tables",),
    "lutra.inspection.merge": ("merge_tables",),
    "lutra.inspection.lint": ("lint_table",),
    "lutra.interchange.export_table": ("export_table",),
    "lutra.interchange.import_table": ("import_table",),
    "lutra.interchange.networks_to_time": ("write_networks",),
    "lutra.packing.pack": ("pack", "unpack"),
    "lutra.predictors.accuracy.loading": ("load_accuracy",),
    "lutra.predictors.efficiency.predictor": ("EfficiencyPredictor",),
    "lutra.profiler.networks.calibration": ("calibrate", "validate"),
    "lutra.profiler.networks.model_files": ("profile_models",),
    "lutra.profiler.profile": ("profile",),
    "lutra.profiler.stopping": ("Again",),
    "lutra.profiler.watch": ("Progress", "Watch"),
    "lutra.report.write": ("write_report",),
    "lutra.search.measuring.closed_loop": ("find_within_budget",),
    "lutra.search.export": ("export",),
    "lutra.search.find": ("find_networks",),
    "lutra.search.fronts.find": ("find_front",),
    "lutra.search.result": ("SearchResult",),
    "lutra.search.measuring.verification": ("verify",),
    "lutra.search.training.single_path": ("train_single_path",),
    "lutra.search.training.shrink": ("shrink",),
    "lutra.search.training.user_module": ("prune_module",),
    "lutra.spaces.registry": ("get_space",),
    "lutra.supernets.checkpoints.network": ("network_space",),
    "lutra.supernets.deployment.clustering": ("cluster",),
    "lutra.supernets.deployment.file_accuracy": ("evaluate",),
    "lutra.supernets.deployment.module_file": ("save_module",),
    "lutra.supernets.deployment.tuned_network": ("fine_tune_network",),
    "lutra.supernets.quantization.quantize": ("quantize",),
    "lutra.supernets.training.train": ("train_supernet",),
    "lutra.tables.table": ("LatencyTable",),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_MODULES)]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'lutra' has no attribute '{name}'")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> "list[str]":
    return sorted({*globals(), *__all__})
