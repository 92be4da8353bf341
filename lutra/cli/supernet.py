"""lutra supernet: train a supernet."""

from __future__ import annotations

import click

from lutra.cli.supernet_train import train


@click.group("supernet")
def command() -> None:
    """Train supernets: the weights of every network of a space."""


command.add_command(train)
