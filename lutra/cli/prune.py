"""lutra prune: fewer channels for a trained network."""

from __future__ import annotations

import click

from lutra.cli.prune_apply import apply
from lutra.cli.prune_sense import sense


@click.group("prune")
def command() -> None:
    """Sensitivity curves that a search for fewer channels ranks by, and what it found, made."""


command.add_command(sense)
command.add_command(apply)
