"""lutra devices: what is attached."""

from __future__ import annotations

from dataclasses import asdict

import click

from lutra.cli.options import as_json
from lutra.cli.output import print_json, print_table


@click.command("devices")
@as_json
def command(as_json: bool) -> None:
    """What is attached, with the spec string to use."""
    from lutra.devices.registry import open_device

    devices = [open_device("cpu")]
    if as_json:
        records = [{**asdict(d.info()), "runtimes": list(d.runtimes())} for d in devices]
        print_json({"devices": records})
        return
    print_table(
        ["spec", "model", "architecture", "cores", "runtimes"],
        [
            [info.spec, info.model, info.architecture, info.cores, ", ".join(device.runtimes())]
            for device in devices
            for info in [device.info()]
        ],
    )
