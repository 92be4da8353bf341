"""lutra accuracy: accuracy models of your own supernet."""

from __future__ import annotations

import click

from lutra.cli.accuracy_fit import fit
from lutra.cli.accuracy_sample import sample


@click.group("accuracy")
def command() -> None:
    """Measure subnets of a supernet, and fit the model that a search ranks by."""


command.add_command(sample)
command.add_command(fit)
