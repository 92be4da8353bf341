"""lutra quickstart: from nothing to a verified, exported subnet on this machine's CPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

import lutra
from lutra.cli.options import as_json
from lutra.cli.output import Report, note, note_drift, note_noise, print_json, progress, watch
from lutra.cli.verify import print_verified
from lutra.errors import UsageError
from lutra.files import check_output
from lutra.files.kinds import MODELS, RESULT, TABLE, require_kind

if TYPE_CHECKING:
    from lutra.profiler.calibration import Validation

SPACE = "ofa-mbv3-w1.0"
RESOLUTION = 224
PROFILE_SECONDS = 100.0
NETWORKS_SECONDS = 80.0
VERIFY_SECONDS = 20.0
CALIBRATE_NETWORKS = 20
VALIDATE_NETWORKS = 20
VERIFIED = 3
_STEPS = 5


@click.command("quickstart")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("lutra-quickstart"),
    show_default=True,
    help="Folder for what it writes; an interrupted run goes on there.",
)
@click.option("--device", "device_spec", default="cpu", show_default=True)
@click.option("--max-latency", help="Budget, such as 5ms; half-way by default.")
@as_json
def command(output: Path, device_spec: str, max_latency: str | None, as_json: bool) -> None:
    """Profile this CPU, calibrate, validate, search, verify and export: a few minutes."""
    from lutra.cli.quantities import parse_latency_ms

    budget_ms = parse_latency_ms(max_latency) if max_latency is not None else None
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {output}: {error.strerror}") from error
    table, result_file, model = (output / name for name in ("cpu.lut", "result.json", "model.onnx"))
    _check_outputs(table, result_file, model)
    note(f"OFA-MobileNetV3 on '{device_spec}': at most five minutes, best on an idle machine")
    started = time.monotonic()
    validation = _measure(table, device_spec)
    result = _search(table, budget_ms, result_file)
    with _step(4, f"verify the best {VERIFIED} end to end") as report:
        result = lutra.verify(
            result, device=device_spec, count=VERIFIED, watch=watch(report, VERIFY_SECONDS)
        )
    if not as_json:
        print_verified(result, VERIFIED)
    result.write(result_file)
    with _step(5, "export"):
        metadata = lutra.export(result, model)
    seconds = time.monotonic() - started
    paths = {"table": str(table), "result": str(result_file), "model": str(model)}
    if as_json:
        from dataclasses import asdict

        print_json(
            {
                "seconds": round(seconds, 1),
                **paths,
                "validation": asdict(validation),
                "search": result.to_json(),
            }
        )
        return
    _print_summary(result, validation, paths, metadata["weights"], seconds)


def _check_outputs(table: Path, result_file: Path, model: Path) -> None:
    """Raise now what writing them would: minutes of measuring come before."""
    require_kind(table, TABLE)
    check_output(result_file, RESULT)
    check_output(model, MODELS[model.suffix.removeprefix(".")])


@contextmanager
def _step(number: int, text: str) -> Iterator[Report]:
    note(f"[{number}/{_STEPS}] {text}")
    with progress(f"{text.split()[0]:9}") as report:
        yield report


def _measure(table: Path, device_spec: str) -> Validation:
    """Profile and calibrate, validate; returns the errors on fresh networks."""
    ops = len(lutra.get_space(SPACE).ops_at([RESOLUTION]))
    what = f"{ops} op configurations and {CALIBRATE_NETWORKS} networks"
    with _step(1, f"profile {what} at resolution {RESOLUTION}") as report:
        lutra.profile(
            device_spec,
            SPACE,
            table,
            resolutions=[RESOLUTION],
            networks=CALIBRATE_NETWORKS,
            runtime="onnxruntime",
            watch=watch(report, PROFILE_SECONDS),
        )
    with _step(2, f"validate on {VALIDATE_NETWORKS} others") as report:
        return lutra.validate(
            table,
            device=device_spec,
            networks=VALIDATE_NETWORKS,
            watch=watch(report, NETWORKS_SECONDS),
        )


def _search(table: Path, budget_ms: float | None, result_file: Path) -> lutra.SearchResult:
    from lutra.search.find import half_way_budget_ms

    limit = budget_ms
    if limit is None:
        predictor, accuracy = lutra.EfficiencyPredictor(table), lutra.load_accuracy(space=SPACE)
        limit = half_way_budget_ms(predictor, accuracy)
    with _step(3, f"search the most accurate subnet within {limit:.3g} ms") as report:
        result = lutra.find_networks(
            table,
            max_latency_ms=limit,
            on_step=lambda done, expected: report(done, expected, float("nan")),
        )
    result.write(result_file)
    return result


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
