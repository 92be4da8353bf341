"""The steps of a pipeline: each takes a network's weights and leaves others, in files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lutra.emitters.emission import Emission
from lutra.predictors.filling.sample import Sample
from lutra.profiler.bench import DeviceOrSpec, runtime_config_of
from lutra.profiler.profile import profile
from lutra.profiler.watch import Watch
from lutra.search.measuring.closed_loop import find_within_budget, require_kept
from lutra.spaces import Architecture
from lutra.supernets.checkpoints.network import save_network
from lutra.supernets.deployment.clustering import cluster
from lutra.supernets.deployment.trained import Training, prepared
from lutra.supernets.deployment.tuned_network import fine_tune_network
from lutra.supernets.pruning.sensing import sense
from lutra.supernets.quantization.quantize import quantize
from lutra.tables import Target

OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Surroundings:
    """What all steps work with.

    ``target`` is the table's, whose device all is measured on; ``supernet`` the file that the
    pipeline began with, which is the teacher. ``epochs`` are those of each training, ``images``
    how many validation images tell a layer's sensitivity, ``sample`` how many narrower ops are
    measured.
    """

    folder: Path
    data: Path
    supernet: Path
    target: Target
    emission: Emission
    device: DeviceOrSpec
    budget_ms: float
    epochs: int
    images: int | None
    calibration_images: int
    sample: Sample
    seed: int
    watch: Watch
    on_step: OnStep


@dataclass(frozen=True)
class Given:
    """What a step begins with: weights in a file, and of which network.

    A step writes others to a file and returns the latency that its own table predicts, if it has
    one.
    """

    checkpoint: Path
    network: Architecture


def prune(around: Surroundings, given: Given, output: Path) -> float:
    """The channels that a table and sensitivity curves choose under the budget, measured.

    Returns what its table predicts, in ms. Raises `InfeasibleError` where the fewest channels are
    too many, or none of those that were measured kept the budget.
    """
    curves, table = (
        output.with_name(f"{output.stem}-{name}") for name in ("curves.jsonl", "w.lut")
    )
    sensed = sense(
        given.checkpoint,
        around.data,
        curves,
        network=given.network,
        images=around.images,
        calibration_images=around.calibration_images,
        on_progress=lambda done, expected, eta: around.on_step(done, expected),
    )
    config = runtime_config_of(around.target)
    profile(
        around.device,
        sensed.space,
        table,
        resolutions=(sensed.r,),
        sample=around.sample,
        runtime=config.runtime,
        precision=around.target.precision,
        threads=config.threads,
        batch=config.batch,
        options=config.options,
        watch=around.watch,
    )
    found = find_within_budget(
        table, around.budget_ms, device=around.device, accuracy=curves, watch=around.watch
    )
    found.write(output.with_name(f"{output.stem}-found.json"))
    require_kept(found)
    best = found.best.architecture
    with prepared(best, Training(given.checkpoint, around.data)) as narrower:
        assert narrower.images is not None
        about = {**narrower.notes, "augmentation": narrower.images.augmentation}
        save_network(narrower.network, best, output, about)
    return found.best.predicted_ms


def tune(around: Surroundings, given: Given, output: Path) -> None:
    """Fine-tuning by labels."""
    _trained(around, given, output, [])


def distil(around: Surroundings, given: Given, output: Path) -> None:
    """Fine-tuning by labels and what the first network, or the supernet's largest, answers."""
    _trained(around, given, output, [around.supernet])


def _trained(around: Surroundings, given: Given, output: Path, teachers: list[str | Path]) -> None:
    fine_tune_network(
        given.checkpoint,
        around.data,
        output,
        network=given.network,
        epochs=around.epochs,
        teachers=teachers,
        seed=around.seed,
        on_step=around.on_step,
    )


def train_int8(around: Surroundings, given: Given, output: Path) -> None:
    """Fine-tuning as the int8 file computes it."""
    quantize(
        output.with_suffix(f".{around.emission.format}"),
        given.checkpoint,
        around.data,
        given.network,
        ranges="trained",
        epochs=around.epochs,
        seed=around.seed,
        network=output,
        on_step=around.on_step,
    )


def share_values(around: Surroundings, given: Given, output: Path) -> None:
    """Few values per layer, so that the int8 file packs small."""
    cluster(
        given.checkpoint,
        around.data,
        output,
        architecture=given.network,
        epochs=around.epochs,
        seed=around.seed,
        on_step=around.on_step,
    )


INT8_STEPS = ("qat",)
"""Steps whose networks are measured in 8 bits only."""

STEPS: Mapping[str, Callable[[Surroundings, Given, Path], float | None]] = {
    "prune": prune,
    "fine-tune": tune,
    "distill": distil,
    "qat": train_int8,
    "cluster": share_values,
}
