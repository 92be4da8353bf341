"""`shrink`: a trained network made to fit its budget, every step of it measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from lutra.emitters.model_file import read_model_files
from lutra.errors import UsageError
from lutra.packing.pack import pack
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.predictors.filling.sample import Sample
from lutra.profiler.bench import DeviceOrSpec, bench_of_target, emission_of, open_or_create
from lutra.profiler.networks.model_files import measurement_of
from lutra.profiler.protocols import NETWORK_PROTOCOL
from lutra.profiler.statistics import process_spread
from lutra.profiler.watch import UNWATCHED, Watch
from lutra.profiler.workload import model_workload
from lutra.search.export import export
from lutra.search.measuring.caution import CONFIDENCE, deviations_of, upper_ms
from lutra.search.training.folder import Folder, Step, digest_of
from lutra.search.training.steps import INT8_STEPS, STEPS, Given, OnStep, Surroundings
from lutra.spaces import Architecture
from lutra.supernets.checkpoints.checkpoint import Checkpoint, read_checkpoint
from lutra.supernets.checkpoints.network import network_in
from lutra.supernets.deployment.file_accuracy import evaluate
from lutra.supernets.evaluation import ENOUGH_IMAGES
from lutra.supernets.training.state import hold_output
from lutra.tables import LatencyTable, Target
from lutra.tables.profiled import device_of
from lutra.tables.states import visits_in_one_state

START, PRUNE = "start", "prune"
DEFAULT_STEPS = (PRUNE, "distill")
SAMPLE_SECONDS = 60.0
_PACK = ".lpk"


class Planned(NamedTuple):
    """A step by its name and what the record calls it, and what it is to keep in ms."""

    name: str
    label: str
    budget_ms: float


@dataclass(frozen=True)
class Shrunk:
    """The steps of a pipeline in order, and the best of them."""

    folder: Path
    steps: tuple[Step, ...]

    @property
    def best(self) -> Step | None:
        """The most accurate of those that keep the budget; of equals the smallest download."""
        kept = [step for step in self.steps if step.within_budget]
        return max(kept, key=lambda step: (step.top1, -step.download_bytes), default=None)

    def to_json(self) -> dict[str, Any]:
        """For JSON: all steps, and the name of the best."""
        best = self.best
        return {
            "folder": str(self.folder),
            "steps": [step.to_json() for step in self.steps],
            "best": None if best is None else best.name,
        }


def shrink(
    checkpoint: str | Path,
    data: str | Path,
    table: str | Path,
    folder: str | Path,
    *,
    max_latency_ms: float,
    network: Architecture | None = None,
    steps: Sequence[str] = DEFAULT_STEPS,
    epochs: int = 1,
    images: int | None = None,
    calibration_images: int = ENOUGH_IMAGES,
    sample_seconds: float = SAMPLE_SECONDS,
    device: DeviceOrSpec | None = None,
    seed: int = 0,
    watch: Watch = UNWATCHED,
    on_step: OnStep = lambda done, expected: None,
    on_note: Callable[[str], None] = lambda text: None,
) -> Shrunk:
    """Take a trained network through ``steps``, each measured, to a file that keeps its budget.

    ``checkpoint`` is a supernet's file or one network's; ``network`` the one of a supernet to begin
    with, its largest at the table's highest resolution by default. ``table`` says on what device,
    with which runtime and at which precision all files are made and measured. ``steps`` are of
    ``prune`` (channels chosen by measured steps of latency, under the budget), ``fine-tune``,
    ``distill`` (with the supernet's largest network as teacher), ``qat`` (int8 tables) and
    ``cluster`` (few values per layer, for a small download), in the order in which they are done.
    Where ``prune`` stands several times, each takes the same share of the latency that is left, and
    the last keeps the budget: prune a part, train, sense again.
    Each training is of ``epochs``; ``images`` validation images tell sensitivities, with statistics
    of ``calibration_images``; narrower ops are measured for ``sample_seconds``.

    All that is made lies in ``folder``, with ``steps.json``: called again it goes on, further steps
    may follow. Raises what the steps do, `UsageError` for unknown ones or a folder of another
    pipeline, and `TrainingError` where another process works there.

    >>> shrunk = shrink("small.pth", "images", "small.lut", "shrunk", max_latency_ms=50.0, steps=[])
    >>> shrunk.best.name, shrunk.steps[0].within_budget
    ('start', True)
    """
    if not max_latency_ms > 0.0:
        raise UsageError(f"a budget of {max_latency_ms:g} ms leaves no time: name one above 0")
    for name in steps:
        if name not in STEPS:
            raise UsageError(f"no step is called '{name}'; known: {', '.join(STEPS)}")
    source = read_checkpoint(checkpoint)
    with LatencyTable.open(table) as opened:
        target = opened.target
        target.require_measurable(str(table))
        spec = device or device_of(opened)
    _require_precision(steps, target, table)
    begun, start_ms = _first(source, network, table)
    settings = {
        "checkpoint": source.digest,
        "network": begun.key,
        "data": str(data),
        "target": target.to_json(),
        "max_latency_ms": float(max_latency_ms),
        "epochs": epochs,
        "seed": seed,
    }
    with hold_output(Path(folder)):
        record = Folder(Path(folder), settings)
        around = Surroundings(
            folder=record.path,
            data=Path(data),
            supernet=Path(checkpoint),
            target=target,
            emission=emission_of(target),
            device=spec,
            budget_ms=float(max_latency_ms),
            epochs=epochs,
            images=images,
            calibration_images=calibration_images,
            sample=Sample(seconds=sample_seconds),
            seed=seed,
            watch=watch,
            on_step=on_step,
        )
        planned = plan([START, *steps], start_ms, around.budget_ms)
        done = record.keep([step.label for step in planned])
        for number, step in enumerate(planned[done:], done):
            on_note(f"step {number + 1} of {len(planned)}: {step.label}")
            _take(around, record, step, Given(Path(checkpoint), begun), start_ms)
        return Shrunk(record.path, tuple(record.steps))


def plan(names: Sequence[str], start_ms: float, budget_ms: float) -> list[Planned]:
    """The steps with their own budgets: several prunings go to the last one's by equal ratios."""
    rounds, number = names.count(PRUNE), 0
    planned = []
    for name in names:
        label, own_ms = name, budget_ms
        if name == PRUNE and rounds > 1:
            number += 1
            label = f"{name}-{number}-of-{rounds}"
            own_ms = max(budget_ms, start_ms * (budget_ms / start_ms) ** (number / rounds))
        planned.append(Planned(name, label, own_ms))
    return planned


def _require_precision(steps: Sequence[str], target: Target, table: str | Path) -> None:
    """Raise `UsageError` for steps that the table's files would not show."""
    vain = [name for name in steps if name in INT8_STEPS]
    if vain and target.precision != "int8":
        raise UsageError(
            f"{table} is of {target.precision}, so files would not be int8: leave the step"
            f" {vain[0]} out, or name a table of `lutra profile --precision int8`"
        )


def _first(
    source: Checkpoint, network: Architecture | None, table: str | Path
) -> tuple[Architecture, float]:
    """The network to begin with, and what the table predicts of it in ms."""
    own = source.architecture
    if own is not None and network not in (None, own):
        raise UsageError(f"{source.source} is of another network than the one that is named")
    begun = own or network
    predictor = EfficiencyPredictor(table, source.space if begun is None else begun.space)
    if begun is None:
        space = predictor.space
        largest = space.decode(space.choice_counts - 1)
        begun = Architecture(space.name, max(predictor.resolutions), largest.lists)
    return begun, predictor.predict_one(begun).latency_ms


def _take(
    around: Surroundings, record: Folder, step: Planned, begun: Given, start_ms: float
) -> None:
    """Do one step, make its file, measure it, and note it down."""
    begin = time.monotonic()
    given, predicted_ms = begun, start_ms
    if record.steps and record.steps[-1].checkpoint:
        before = around.folder / record.steps[-1].checkpoint
        given = Given(before, network_in(before))
    output, weights = around.folder / f"{len(record.steps)}-{step.label}.pth", ""
    if step.name != START:
        within = replace(around, budget_ms=step.budget_ms)
        own_ms = STEPS[step.name](within, given, output)
        given, weights = Given(output, network_in(output)), output.name
        # Training changes no latency.
        predicted_ms = own_ms or record.steps[-1].predicted_ms
    model = output.with_suffix(f".{around.emission.format}")
    export(
        given.network,
        model,
        format=around.emission.format,
        precision=around.emission.precision,
        checkpoint=given.checkpoint,
        data=around.data,
    )
    found = evaluate(model, around.data, split="validation", on_step=around.on_step)
    low, high = found.accuracy.interval_percent
    latency_ms, most_ms = _measured(around, model)
    download = pack(model, model.with_suffix(_PACK)).path if step.name == "cluster" else model
    files = [model.name, *([weights] if weights else [])]
    record.add(
        Step(
            name=step.label,
            checkpoint=weights,
            model=model.name,
            top1=found.percent,
            low=low,
            high=high,
            images=found.accuracy.count,
            predicted_ms=predicted_ms,
            latency_ms=latency_ms,
            upper_ms=most_ms,
            within_budget=most_ms <= around.budget_ms,
            model_bytes=model.stat().st_size,
            download_bytes=download.stat().st_size,
            seconds=round(time.monotonic() - begin, 1),
            digests={file: digest_of(around.folder / file) or "" for file in files},
        )
    )


def _measured(around: Surroundings, model: Path) -> tuple[float, float]:
    """What a file takes on the device, and what a process that runs it takes at most, in ms.

    In a table of its own, so as it was measured: the one network that a table of all would know
    from runs before is a reference, by which a file of another size must not be corrected.
    """
    (file,) = read_model_files([model])
    own = f"{model.stem}-{file.key.rpartition(':')[2]}.lut"
    with (
        bench_of_target(around.device, around.target) as bench,
        open_or_create(around.folder / own, bench.target) as stored,
    ):
        workload = model_workload(file, alone=bench.session.sends_models)
        bench.measure(stored, [workload], NETWORK_PROTOCOL, watch=around.watch)
        measured = measurement_of(stored, file)
        spread = process_spread(visits_in_one_state(stored, "network").values())
    latency_ms, high_ms = measured.latency_ms, measured.ci_high_ms
    return latency_ms, upper_ms(latency_ms, high_ms, spread, deviations_of(CONFIDENCE))
