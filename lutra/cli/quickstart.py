"""lutra quickstart: from nothing to a verified, exported subnet on this machine's CPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import lutra
from lutra.cli.options import FOLDER, as_json, fine_tune_option
from lutra.cli.output import Report, note, note_drift, note_noise, print_json, progress, watch
from lutra.cli.verify import print_verified
from lutra.errors import DataError, UsageError
from lutra.files import check_output
from lutra.files.kinds import MODELS, RESULT, TABLE, require_kind

if TYPE_CHECKING:
    from lutra.profiler.networks.validation import Validation

PROFILE_SECONDS = 100.0
NETWORKS_SECONDS = 80.0
SEARCH_SECONDS = 40.0
CANDIDATES, ITERATIONS = 4, 2  # what there is time for; `lutra search --verify` goes on
CALIBRATE_NETWORKS = 20
VALIDATE_NETWORKS = 20


@dataclass(frozen=True)
class Plan:
    """What is searched, and where images for it are, where trained weights come with lutra."""

    space: str
    resolutions: tuple[int, ...]
    folder: Path
    data: Path | None = None

    @property
    def steps(self) -> int:
        """How many steps it takes."""
        return 4 if self.data is None else 5


PLANS = {
    plan.space: plan
    for plan in (
        Plan("ofa-mbv3-w1.0", (224,), Path("lutra-quickstart")),
        Plan(
            "ofa-mbv3-fashion",
            (20, 24, 28),
            Path("lutra-quickstart-fashion"),
            Path("/usr/share/datasets/fashion-mnist"),  # Debian's dataset-fashion-mnist
        ),
    )
}


@click.command("quickstart")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for what it writes; an interrupted run goes on there.",
)
@click.option("--device", "device_spec", default="cpu", show_default=True)
@click.option("--max-latency", help="Budget, such as 5ms; half-way by default.")
@click.option(
    "--space",
    type=click.Choice(list(PLANS)),
    default="ofa-mbv3-w1.0",
    show_default=True,
    help="ofa-mbv3-fashion comes with trained weights.",
)
@click.option("--data", type=FOLDER, help="Fashion-MNIST; by default Debian's package.")
@fine_tune_option
@as_json
def command(
    output: Path | None,
    device_spec: str,
    max_latency: str | None,
    space: str,
    data: Path | None,
    epochs: int,
    as_json: bool,
) -> None:
    """Profile this CPU, calibrate, validate, search, measure and export: a few minutes.

    With --space ofa-mbv3-fashion the network gets the weights of the supernet that comes with
    lutra, and the files' accuracy on Fashion-MNIST is measured too.
    """
    from lutra.cli.quantities import parse_latency_ms

    plan = _plan(space, output, data, epochs)
    budget_ms = parse_latency_ms(max_latency) if max_latency is not None else None
    table, result_file, model = _outputs(plan)
    note(f"{plan.space} on '{device_spec}': at most five minutes, best on an idle machine")
    started = time.monotonic()
    validation = _measure(plan, table, device_spec)
    result = _search(plan, table, device_spec, budget_ms, result_file)
    if not as_json:
        print_verified(result, len(result.candidates))
        for text in result.notes:
            note(text)
    paths, exported = _export(plan, result, model, device_spec, epochs, show=not as_json)
    seconds = time.monotonic() - started
    paths = {"table": str(table), "result": str(result_file), **paths}
    if as_json:
        stated = {"validation": asdict(validation), "search": result.to_json(), **exported}
        print_json({"seconds": round(seconds, 1), **paths, **stated})
        return
    _print_summary(result, validation, paths, exported["weights"], seconds)


def _plan(space: str, output: Path | None, data: Path | None, epochs: int) -> Plan:
    """The plan of a space, with the folders that were given; raises before anything is measured."""
    plan = PLANS[space]
    plan = replace(plan, folder=output or plan.folder, data=plan.data and (data or plan.data))
    if plan.data is None:
        if data is not None or epochs:
            raise UsageError(f"there are no trained weights for {space}: leave out the images")
        return plan
    if not plan.data.is_dir():
        raise DataError(
            f"there is no folder {plan.data}: install Debian's dataset-fashion-mnist, or name the"
            " folder of Fashion-MNIST's four files (--data)"
        )
    from lutra.supernets.data.loading import load_images

    load_images(plan.data, "test").require_fit(lutra.get_space(space))
    lutra.load_accuracy(space=space)
    return plan


def _outputs(plan: Plan) -> tuple[Path, Path, Path]:
    """Table, result, model; raises now what writing them would: minutes of measuring come first."""
    folder = plan.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {error.strerror}") from error
    table, result_file, model = (folder / name for name in ("cpu.lut", "result.json", "model.onnx"))
    require_kind(table, TABLE)
    check_output(result_file, RESULT)
    check_output(model, MODELS[model.suffix.removeprefix(".")])
    return table, result_file, model


@contextmanager
def _step(plan: Plan, number: int, text: str) -> Iterator[Report]:
    note(f"[{number}/{plan.steps}] {text}")
    with progress(f"{text.split()[0]:9}") as report:
        yield report


def _measure(plan: Plan, table: Path, device_spec: str) -> Validation:
    """Profile and calibrate, validate; returns the errors on fresh networks."""
    ops = len(lutra.get_space(plan.space).ops_at(plan.resolutions))
    sizes = " and ".join(map(str, plan.resolutions)).replace(
        " and ", ", ", len(plan.resolutions) - 2
    )
    where = f"resolution{'s' * (len(plan.resolutions) > 1)} {sizes}"
    what = f"{ops} op configurations and {CALIBRATE_NETWORKS} networks"
    with _step(plan, 1, f"profile {what} at {where}") as report:
        lutra.profile(
            device_spec,
            plan.space,
            table,
            resolutions=plan.resolutions,
            networks=CALIBRATE_NETWORKS,
            runtime="onnxruntime",
            watch=watch(report, PROFILE_SECONDS),
        )
    with _step(plan, 2, f"validate on {VALIDATE_NETWORKS} others") as report:
        return lutra.validate(
            table,
            device=device_spec,
            networks=VALIDATE_NETWORKS,
            watch=watch(report, NETWORKS_SECONDS),
        )


def _search(
    plan: Plan, table: Path, device_spec: str, budget_ms: float | None, result_file: Path
) -> lutra.SearchResult:
    """Search and measure until a network keeps the budget; the result is written all along."""
    from lutra.search.find import half_way_budget_ms

    limit = budget_ms
    if limit is None:
        predictor = lutra.EfficiencyPredictor(table)
        limit = half_way_budget_ms(predictor, lutra.load_accuracy(space=plan.space))
    what = f"search the most accurate subnet that keeps {limit:.3g} ms, measuring what is found"
    with _step(plan, 3, what) as report:
        return lutra.find_within_budget(
            table,
            limit,
            device=device_spec,
            candidates=CANDIDATES,
            iterations=ITERATIONS,
            watch=watch(report, SEARCH_SECONDS),
            on_result=lambda result: result.write(result_file),
        )


def _export(
    plan: Plan,
    result: lutra.SearchResult,
    model: Path,
    device_spec: str,
    epochs: int,
    *,
    show: bool,
) -> tuple[dict[str, str], dict[str, Any]]:
    """The files by name, and what is to be said of them."""
    if plan.data is None:
        with _step(plan, 4, "export"):
            metadata = lutra.export(result, model)
        return {"model": str(model)}, {"weights": metadata["weights"]}
    from lutra.cli.quickstart_weights import Deployment, deploy

    numbers = iter((4, 5))
    deployment = Deployment(device_spec, plan.space, plan.data, epochs)
    deployed = deploy(
        result, plan.folder, deployment, lambda text: _step(plan, next(numbers), text), show=show
    )
    return (
        {f"model {each.precision}": each.path for each in deployed},
        {"weights": deployed[0].weights, "files": [asdict(each) for each in deployed]},
    )


def _print_summary(
    result: lutra.SearchResult,
    validation: Validation,
    paths: dict[str, str],
    weights: str,
    seconds: float,
) -> None:
    budget = result.limits["latency_ms"]
    note("")
    note(f"device     {result.target.summary()}")
    note(f"budget     {budget:.4g} ms")
    note(
        f"predictor  MAPE {validation.mape_percent:.1f} % on {validation.networks} fresh networks,"
        f" worst {validation.max_percent:.1f} %"
        f" (the networks repeat within {validation.repeatability_percent:.1f} %)"
    )
    note_drift(validation.drifted_networks, validation.networks)
    note_noise(validation.repeatability_percent)
    for name, path in paths.items():
        note(f"{name:10} {path}")
    note(f"weights    {weights}")
    note(f"done in {seconds:.0f} s")
