"""Pruning a torch module of the user's own by a device's latencies."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lutra.emitters.emission import Emission
from lutra.errors import ModelError, UsageError
from lutra.files import write_atomically
from lutra.files.kinds import MODELS
from lutra.predictors.accuracy.sensitivities import sensitivity_rows
from lutra.predictors.filling.sample import Sample
from lutra.profiler.bench import DeviceOrSpec
from lutra.profiler.profile import profile
from lutra.profiler.watch import UNWATCHED, Watch
from lutra.search.measuring.closed_loop import find_within_budget, require_kept
from lutra.search.result import SearchResult
from lutra.spaces.graph_widths import GraphWidthSpace
from lutra.spaces.registry import remember_space
from lutra.supernets.accuracy.inherited import InheritedAccuracy
from lutra.supernets.accuracy.sampling import measure_accuracy
from lutra.supernets.data.base import Augmentation
from lutra.supernets.data.loading import load_images
from lutra.supernets.deployment.fine_tuning import fine_tune
from lutra.supernets.deployment.tracing import traced
from lutra.supernets.evaluation import ENOUGH_IMAGES, Accuracy, OnStep, top1, tune_statistics
from lutra.supernets.pruning.removal import Criterion, NarrowerNetworks
from lutra.supernets.subnet import Subnet

if TYPE_CHECKING:
    from torch import nn

SAMPLE_SECONDS = 60.0


@dataclass(frozen=True)
class PrunedModule:
    """A smaller module of plain layers, fine-tuned, and what it was chosen by.

    ``before`` is the top-1 of the module as it was given, ``after`` that of ``module``, on the
    validation images. ``result`` is the search's, with what was measured.
    """

    module: Subnet
    result: SearchResult
    before: Accuracy
    after: Accuracy

    def write(self, path: str | Path, *, precision: str = "fp32") -> None:
        """Write the model file that its suffix names: .onnx, .tflite or .torch.

        Raises `UsageError` for another suffix or precision, `ResultError`.
        """
        path = Path(path)
        emission = Emission(path.suffix.lstrip("."), precision)
        data = emission.emit(self.module.graph, self.module.weights())
        write_atomically(path, data, kind=MODELS[emission.format])


def prune_module(
    module: nn.Module,
    data: str | Path,
    folder: str | Path,
    *,
    resolution: int,
    max_latency_ms: float,
    device: DeviceOrSpec = "cpu",
    runtime: str | None = None,
    precision: str = "fp32",
    epochs: int = 1,
    augmentation: Augmentation = "none",
    images: int | None = None,
    calibration_images: int = ENOUGH_IMAGES,
    sample_seconds: float = SAMPLE_SECONDS,
    criterion: Criterion = "independent",
    seed: int = 0,
    watch: Watch = UNWATCHED,
    on_step: OnStep = lambda done, expected: None,
) -> PrunedModule:
    """The module with as few channels as keep a budget on a device, at the least predicted loss.

    ``module`` is a trained classifier of square images of ``resolution`` pixels, of layers that
    `traced` knows; it is left as it is. ``data`` is a folder of images (`load_images`). What is
    measured goes into ``folder``: ``curves.jsonl``, what narrowing each layer alone costs in
    accuracy, on ``images`` validation images; ``widths.lut``, ops of fewer channels, for
    ``sample_seconds``; the same call goes on there. Channels are chosen exactly, measured, removed
    by their L1 norms, and what is left is fine-tuned for ``epochs``.

    Raises `ModelError` naming a layer that cannot be followed, `DataError`, `DeviceError`,
    `TableError`, `InfeasibleError` for a budget below what fewer channels reach or that nothing
    measured kept, `TrainingError`.

    >>> from torch import nn
    >>> layers = [nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()]
    >>> module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    >>> pruned = prune_module(module, "images", "pruned", resolution=28, max_latency_ms=1.0)
    >>> pruned.write("pruned.onnx")
    >>> evaluate("pruned.onnx", "images", split="validation").accuracy == pruned.after
    True
    """
    if not max_latency_ms > 0.0:
        raise UsageError(f"a budget of {max_latency_ms:g} ms leaves no time: name one above 0")
    folder = Path(folder)
    train = load_images(data, "train", augmentation)
    network = traced(module, (train.channels, resolution, resolution))
    space = GraphWidthSpace(network.graph)
    train.require_fit(space)
    remember_space(space)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {error.strerror}") from error
    narrower = NarrowerNetworks(network, space, criterion)
    curves, table = folder / "curves.jsonl", folder / "widths.lut"
    accuracy = InheritedAccuracy(
        narrower, _digest(network), data, images=images, calibration_images=calibration_images
    )
    measure_accuracy(
        accuracy,
        curves,
        sensitivity_rows(space),
        on_progress=lambda done, expected, eta_seconds: on_step(done, expected),
    )
    profile(
        device,
        space,
        table,
        resolutions=(resolution,),
        sample=Sample(seconds=sample_seconds),
        runtime=runtime,
        precision=precision,
        watch=watch,
    )
    result = find_within_budget(
        table, max_latency_ms, device=device, space=space, accuracy=curves, watch=watch
    )
    require_kept(result)
    pruned = narrower.subnet(result.best.architecture)
    if epochs:
        fine_tune(pruned, train, resolution, epochs, seed=seed, on_step=on_step)
    tune_statistics(pruned, train, resolution)
    validation = load_images(data, "validation")
    before = top1(network, validation, resolution)
    return PrunedModule(pruned, result, before, top1(pruned, validation, resolution))


def _digest(network: Subnet) -> str:
    """SHA-256 of a network's weights; raises `ModelError` where one is no finite number."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if not bool(tensor.isfinite().all()):
            raise ModelError(
                f"the module's {name.replace('/', '.')} holds values that are not finite"
            )
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()
