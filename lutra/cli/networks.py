"""lutra networks: model files for a device that lutra cannot reach."""

from __future__ import annotations

from pathlib import Path

import click

import lutra
from lutra.cli.options import as_json, network_option
from lutra.cli.output import line, note_next, print_json, progress, with_eta


@click.command("networks")
@click.option("--space", "space_name", default="ofa-mbv3-w1.0", show_default=True)
@click.option("--resolutions", default="224", show_default=True, help="224, 128:224:32 or 'all'.")
@click.option("--count", type=click.IntRange(1, 5000), default=100, show_default=True)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["onnx", "tflite", "torch"]),
    default="tflite",
    show_default=True,
)
@click.option("--precision", default="fp32", show_default=True, help="fp32, fp16 or int8.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="A folder for the files."
)
@network_option
@as_json
def command(
    space_name: str,
    resolutions: str,
    count: int,
    format_: str,
    precision: str,
    output: Path,
    as_json: bool,
) -> None:
    """Write random networks as model files, and a CSV file for what they take elsewhere."""
    from lutra.cli.quantities import parse_resolutions

    space = lutra.get_space(space_name)
    with progress("networks") as report:
        path = lutra.write_networks(
            space,
            output,
            resolutions=parse_resolutions(resolutions, space.resolutions),
            count=count,
            format=format_,
            precision=precision,
            on_step=with_eta(report),
        )
    if as_json:
        print_json({"list": str(path)})
        return
    line(str(path))
    note_next(
        f"time the files and write what they take into its column latency_ms; then lutra table"
        f" from-networks {path} --space {space_name} -o FILE.lut"
    )
