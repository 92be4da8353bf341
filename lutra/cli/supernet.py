"""lutra supernet: networks that hold the weights of a whole space."""

from __future__ import annotations

import click

from lutra.cli.supernet_fetch import fetch
from lutra.cli.supernet_train import train


@click.group("supernet")
def command() -> None:
    """Supernets: the weights of every network of a space."""


command.add_command(train)
command.add_command(fetch)
