"""lutra doctor: is a device fit to measure on."""

from __future__ import annotations

from dataclasses import asdict

import click

import lutra
from lutra.cli.options import as_json, cuda_option, parse_runtime_options, runtime_option, with_gpu
from lutra.cli.output import note, print_json, print_table
from lutra.text import printable_line

NOT_FIT = 3


@click.command("doctor")
@click.argument("device_spec", metavar="DEVICE")
@click.option("--runtime", help="What to measure with; by default the device's first.")
@runtime_option
@cuda_option
@as_json
def command(
    device_spec: str,
    runtime: str | None,
    runtime_options: tuple[str, ...],
    cuda: str | None,
    as_json: bool,
) -> int:
    """Governor, load, temperature and the noise floor, with what to do about each finding.

    Ends with 3 when nothing can be measured on the device, or not as it is now.
    """
    from lutra.profiler.doctor import examine

    options = parse_runtime_options(runtime_options)
    with lutra.open_device(with_gpu(device_spec, cuda)) as device:
        diagnosis = examine(device, runtime, options)
    code = 0 if diagnosis.fit else NOT_FIT
    if as_json:
        print_json(asdict(diagnosis))
        return code
    state = {**asdict(diagnosis.info), **asdict(diagnosis.health)}
    rows: list[list[object]] = [
        [name, ", ".join(value) or None if isinstance(value, tuple) else value]
        for name, value in state.items()
    ]
    rows.append(["runtime", diagnosis.runtime])
    rows.append(["shared_percent", diagnosis.shared_percent])
    rows.append(["noise_percent", diagnosis.noise_percent])
    print_table(["what", "value"], rows)
    for finding in diagnosis.findings:
        note(f"- {printable_line(finding)}")
    if not diagnosis.fit:
        note("not fit to measure on")
    elif not diagnosis.findings:
        note("fit to measure on")
    return code
