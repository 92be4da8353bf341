"""lutra validate: the prediction error on fresh networks."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

import lutra
from lutra.cli.options import (
    as_json,
    budget_option,
    device_option,
    network_option,
    networks_option,
    plot_option,
    rounds_option,
    space_option,
    table_argument,
)
from lutra.cli.output import (
    note_drift,
    note_few,
    note_noise,
    print_json,
    print_table,
    progress,
    watch,
)


@click.command("validate")
@table_argument
@networks_option(50)
@rounds_option
@budget_option
@space_option
@device_option
@plot_option
@network_option
@as_json
def command(
    table: Path,
    networks: int,
    rounds: int | None,
    budget: str | None,
    space_name: str | None,
    device_spec: str | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure fresh subnets that nothing was fitted on; print and store the error."""
    from lutra.cli.quantities import parse_budget

    if plot is not None:
        from lutra.report.figures.picture import check_picture

        check_picture(plot)
    with progress("validate") as report:
        validation = lutra.validate(
            table,
            device=device_spec,
            networks=networks,
            space=space_name,
            rounds=rounds,
            watch=watch(report, parse_budget(budget)),
        )
    if plot is not None:
        from lutra.report.content import Content
        from lutra.report.figures.networks import predicted_against_measured
        from lutra.report.figures.picture import write_picture
        from lutra.tables.measurement import VALIDATE

        write_picture(predicted_against_measured(Content.read(table), [VALIDATE]), plot)
    if as_json:
        print_json(asdict(validation))
        return
    print_table(["measure", "value"], list(asdict(validation).items()))
    note_few(validation.networks)
    note_drift(validation.drifted_networks, validation.networks)
    note_noise(validation.repeatability_percent)
