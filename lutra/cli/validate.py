"""lutra validate: the prediction error on fresh networks."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from lutra.cli.benches import table_and_bench
from lutra.cli.options import (
    as_json,
    budget_option,
    device_option,
    networks_option,
    rounds_option,
    space_option,
    table_argument,
)
from lutra.cli.output import note_drift, print_json, print_table, progress, visits_to


@click.command("validate")
@table_argument
@networks_option(50)
@rounds_option
@budget_option
@space_option
@device_option
@as_json
def command(
    table: Path,
    networks: int,
    rounds: int | None,
    budget: str | None,
    space_name: str | None,
    device_spec: str | None,
    as_json: bool,
) -> None:
    """Measure fresh subnets that nothing was fitted on; print and store the error."""
    from lutra.search.calibration import validate
    from lutra.search.limits import parse_budget
    from lutra.search.networks import NETWORK_PROTOCOL, with_rounds

    with table_and_bench(table, device_spec) as (opened, bench), progress("validate") as report:
        validation = validate(
            bench,
            opened,
            networks=networks,
            space_name=space_name,
            protocol=with_rounds(NETWORK_PROTOCOL, rounds),
            budget_seconds=parse_budget(budget),
            on_progress=visits_to(report),
        )
    if as_json:
        print_json(asdict(validation))
        return
    print_table(["measure", "value"], list(asdict(validation).items()))
    note_drift(validation.drifted_networks, validation.networks)
