"""Pruning a torch module of the user's own by a device's latencies."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lutra.emitters.emission import Emission
from lutra.errors import CheckpointError, UsageError
from lutra.files import check_output, write_atomically
from lutra.files.kinds import MODELS, NETWORK
from lutra.predictors.accuracy import load_accuracy
from lutra.predictors.accuracy.sensitivities import SensitivityPredictor, sensitivity_rows
from lutra.predictors.filling.sample import Sample
from lutra.profiler.bench import DeviceOrSpec
from lutra.profiler.profile import profile
from lutra.profiler.watch import UNWATCHED, Watch
from lutra.search.find import find_networks
from lutra.search.measuring.at_precisions import keeps
from lutra.search.measuring.closed_loop import find_within_budget, require_kept
from lutra.search.result import SearchResult
from lutra.spaces.graph_widths import GraphWidthSpace
from lutra.spaces.narrower import NarrowerForms
from lutra.supernets.accuracy.inherited import InheritedAccuracy
from lutra.supernets.accuracy.sampling import measure_accuracy
from lutra.supernets.checkpoints.network import network_space, save_network
from lutra.supernets.data.base import Augmentation
from lutra.supernets.data.loading import load_images
from lutra.supernets.deployment.fine_tuning import fine_tune
from lutra.supernets.deployment.module_file import keep_module
from lutra.supernets.deployment.resumption import Resumption
from lutra.supernets.deployment.tracing import traced
from lutra.supernets.evaluation import ENOUGH_IMAGES, Accuracy, OnStep, top1, tune_statistics
from lutra.supernets.pruning.removal import Criterion, NarrowerNetworks
from lutra.supernets.subnet import Subnet
from lutra.supernets.training.state import hold_output

if TYPE_CHECKING:
    from torch import nn

SAMPLE_SECONDS = 60.0


@dataclass(frozen=True)
class PrunedModule:
    """A smaller module of plain layers, fine-tuned, and what it was chosen by.

    ``before`` is the top-1 of the module as it was given, ``after`` that of ``module``, on the
    validation images. ``result`` is the search's, with what was measured; ``about`` (plain data)
    says how the module was made.
    """

    module: Subnet
    result: SearchResult
    before: Accuracy
    after: Accuracy
    about: Mapping[str, Any]

    def write(self, path: str | Path, *, precision: str = "fp32") -> None:
        """Write the file that its suffix names: a model, .onnx, .tflite or .torch; or .pth.

        That is a network file, which commands take with ``result`` (`SearchResult.write`) in
        another process. Raises `UsageError` for another suffix or precision, and `ResultError` or
        `CheckpointError` where it cannot be written.
        """
        path = Path(path)
        if path.suffix == ".pth":
            save_network(self.module, self.result.best.architecture, path, self.about)
            return
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
    `traced` knows; it is left as it is. ``data`` is a folder of images (`load_images`). Into
    ``folder`` go ``module.pth``, the module as a network file (`save_module`), and what is
    measured: ``curves.jsonl``, what narrowing each layer alone costs in accuracy, on ``images``
    validation images; ``widths.lut``, ops of fewer channels, for ``sample_seconds``. Channels
    are chosen exactly, and residual blocks to leave out where no channels keep the budget, measured
    (``found.json``), removed by their L1 norms, and what is left is fine-tuned for ``epochs``:
    ``pruned.pth``, a network file. Stopped, the same call goes on, in fine-tuning too, from
    ``pruned.pth.state``.

    Raises `ModelError` naming a layer that cannot be followed, `DataError`, `DeviceError`,
    `TableError`, `CheckpointError`, `UsageError` for a folder of another module or the state of
    another call, `ResultError` for a ``found.json`` that is damaged or cannot be written,
    `InfeasibleError` for a budget below what fewer channels reach or that nothing
    measured kept, `TrainingError`, also where another process works in the folder.

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
    train.require_fit(GraphWidthSpace(network.graph))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {error.strerror}") from error
    about = {"module": type(module).__name__, "augmentation": augmentation}
    with hold_output(folder):
        source = keep_module(network, folder / "module.pth", about)
        narrower = NarrowerNetworks(network, network_space(source.source), criterion)
        accuracy = InheritedAccuracy(
            narrower, source.digest, data, images=images, calibration_images=calibration_images
        )
        asked = _Asked(
            max_latency_ms=float(max_latency_ms),
            device=device,
            runtime=runtime,
            precision=precision,
            sample_seconds=float(sample_seconds),
        )
        settings = {
            **about,
            **asked.to_json(),
            **asdict(accuracy.source),
            "made_of": source.digest,
            "data": str(data),
            "training_images": len(train),
            "epochs": epochs,
            "seed": seed,
        }
        output, found = folder / "pruned.pth", folder / "found.json"
        check_output(output, NETWORK, CheckpointError)
        with Resumption(output, settings) as resumption:
            if resumption.is_begun and found.exists():
                result = SearchResult.read(found)
            else:
                result = asked.found(accuracy, folder, watch, on_step)
                result.write(found)
            best = result.best.architecture
            pruned = narrower.subnet(best)
            if epochs:
                fine_tune(
                    pruned,
                    train,
                    resolution,
                    epochs,
                    seed=seed,
                    resumption=resumption,
                    on_step=on_step,
                )
            tune_statistics(pruned, train, resolution)
            validation = load_images(data, "validation")
            before = top1(network, validation, resolution)
            after = top1(pruned, validation, resolution)
            made = {
                **about,
                "made_of": source.digest,
                "criterion": criterion,
                "epochs": epochs,
                "seed": seed,
                "before": before.to_json(),
                "after": after.to_json(),
            }
            save_network(pruned, best, output, made)
    return PrunedModule(pruned, result, before, after, made)


@dataclass(frozen=True)
class _Asked:
    """A budget, and what is measured for it."""

    max_latency_ms: float
    device: DeviceOrSpec
    runtime: str | None
    precision: str
    sample_seconds: float

    def to_json(self) -> dict[str, Any]:
        """For JSON; the device by its spec."""
        device = self.device if isinstance(self.device, str) else self.device.info().spec
        return {**vars(self), "device": device}

    def found(
        self, accuracy: InheritedAccuracy, folder: Path, watch: Watch, on_step: OnStep
    ) -> SearchResult:
        """What a search of the module's narrower forms found; all that is measured is kept."""
        curves, table = folder / "curves.jsonl", folder / "widths.lut"
        space = accuracy.networks.space
        assert isinstance(space, NarrowerForms)
        measure_accuracy(
            accuracy,
            curves,
            sensitivity_rows(space),
            on_progress=lambda done, expected, eta_seconds: on_step(done, expected),
        )
        profile(
            self.device,
            space,
            table,
            resolutions=space.resolutions,
            sample=Sample(seconds=self.sample_seconds),
            runtime=self.runtime,
            precision=self.precision,
            watch=watch,
        )
        result = self._kept(table, curves, space, watch)
        require_kept(result)
        return result

    def _kept(self, table: Path, curves: Path, space: NarrowerForms, watch: Watch) -> SearchResult:
        """By narrowing alone where that keeps the budget, else with blocks left out, too."""
        every = load_accuracy(curves, space)
        assert isinstance(every, SensitivityPredictor)
        until = time.monotonic() + watch.budget_seconds

        def searched(accuracy: SensitivityPredictor) -> SearchResult:
            return find_within_budget(
                table,
                self.max_latency_ms,
                device=self.device,
                watch=replace(watch, budget_seconds=until - time.monotonic()),
                space=space,
                accuracy=accuracy,
            )

        if not space.spare_columns:
            return searched(every)
        narrowing, budget_ms = every.keeping_blocks(), self.max_latency_ms
        plain = find_networks(table, max_latency_ms=budget_ms, space=space, accuracy=narrowing)
        if space.left_out(plain.best.architecture):  # no widths are predicted to keep it
            return searched(every)
        result = searched(narrowing)
        whole = [each for each in result.candidates if not space.left_out(each.architecture)]
        if whole and keeps(whole[0]):
            return replace(result, candidates=tuple(whole))
        return searched(every)
