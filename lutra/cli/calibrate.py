"""lutra calibrate: fit how a table's ops add up."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

import lutra
from lutra.cli.options import (
    as_json,
    budget_option,
    device_option,
    network_option,
    networks_option,
    rounds_option,
    space_option,
    table_argument,
)
from lutra.cli.output import note, note_few, note_next, print_json, print_table, progress, watch

if TYPE_CHECKING:
    from lutra.predictors.efficiency.composition import Composition


@click.command("calibrate")
@table_argument
@networks_option(20)
@click.option(
    "--error",
    "error",
    metavar="PERCENT",
    help="Add networks, up to 160, until the cross-validated MAPE is no more, such as 1%.",
)
@rounds_option
@budget_option
@space_option
@device_option
@network_option
@as_json
def command(
    table: Path,
    networks: int,
    error: str | None,
    rounds: int | None,
    budget: str | None,
    space_name: str | None,
    device_spec: str | None,
    as_json: bool,
) -> None:
    """Measure whole subnets and fit how the table's parts add up to them."""
    from lutra.cli.quantities import parse_budget, parse_percent

    error_percent = None if error is None else parse_percent(error)
    with progress("calibrate") as report:
        fitted = lutra.calibrate(
            table,
            device=device_spec,
            networks=networks,
            error_percent=error_percent,
            space=space_name,
            rounds=rounds,
            watch=watch(report, parse_budget(budget)),
        )
    if as_json:
        print_json(fitted.to_json())
        return
    print_table(
        ["networks", "plain sum MAPE %", "fitted MAPE % (cross-validated)", "p95 %"],
        [[fitted.networks, fitted.sum_mape_percent, fitted.cv_mape_percent, fitted.cv_p95_percent]],
    )
    if fitted.launch is None:
        note(f"fitted: {_text(fitted.composition)}")
    else:
        note("fitted: the larger of what the device needs and what the host needs to launch it")
        note(f"  device: {_text(fitted.composition)}")
        note(f"  launch: {_text(fitted.launch)}")
    if error_percent is not None and fitted.cv_mape_percent > error_percent:
        note(
            f"{error_percent:g} % was not reached with {fitted.networks} networks: they repeat no"
            " better (lutra validate says how well), or the ops do not tell more"
        )
    note_few(fitted.networks)
    note_next(shlex.join(["lutra", "validate", str(table)]))


def _text(composition: Composition) -> str:
    """The coefficients that are not zero."""
    coefficients = composition.to_json()
    stages = coefficients.pop("stages")
    known = [f"{name} {value:.4g}" for name, value in coefficients.items() if value]
    return ", ".join(known + [f"{name} {value:+.1%}" for name, value in stages.items() if value])
