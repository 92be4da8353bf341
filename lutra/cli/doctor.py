"""lutra doctor: is a device fit to measure on."""

from __future__ import annotations

from dataclasses import asdict

import click

from lutra.cli.options import as_json, parse_runtime_options, runtime_option
from lutra.cli.output import note, print_json, print_table


@click.command("doctor")
@click.argument("device_spec", metavar="DEVICE")
@click.option("--runtime", default="onnxruntime", show_default=True)
@runtime_option
@as_json
def command(
    device_spec: str, runtime: str, runtime_options: tuple[str, ...], as_json: bool
) -> None:
    """Governor, load, temperature and the noise floor, with what to do about each finding."""
    from lutra.devices.base import Setting
    from lutra.devices.registry import open_device
    from lutra.profiler.fitness import examine

    setting = Setting(runtime, options=parse_runtime_options(runtime_options))
    fitness = examine(open_device(device_spec), setting)
    if as_json:
        print_json(asdict(fitness))
        return
    state = {**asdict(fitness.info), **asdict(fitness.health)}
    rows: list[list[object]] = [[name, value] for name, value in state.items()]
    rows.append(["noise_percent", fitness.noise_percent])
    print_table(["what", "value"], rows)
    for finding in fitness.findings:
        note(f"- {finding}")
    if not fitness.findings:
        note("fit to measure on")
