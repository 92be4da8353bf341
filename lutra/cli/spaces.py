"""lutra spaces: what can be searched."""

from __future__ import annotations

from typing import Any

import click

import lutra
from lutra.cli.options import as_json
from lutra.cli.output import print_json, print_table


@click.command("spaces")
@as_json
def command(as_json: bool) -> None:
    """Search spaces: size, unique op configurations, what predicts accuracy."""
    from lutra.spaces import space_names

    records = [_record(name) for name in space_names()]
    if as_json:
        print_json({"spaces": records})
        return
    print_table(
        ["space", "resolutions", "ops at one", "ops", "architectures", "accuracy"],
        [
            [
                record["space"],
                f"{record['resolutions'][0]}..{record['resolutions'][-1]}",
                record["ops_at_one_resolution"],
                record["ops"],
                f"{record['architectures']:.1e}",
                record["accuracy"] or "pass --accuracy FILE",
            ]
            for record in records
        ],
    )


def _record(name: str) -> dict[str, Any]:
    from lutra.errors import AccuracyError

    space = lutra.get_space(name)
    try:
        accuracy = lutra.load_accuracy(space=name).name
    except (AccuracyError, lutra.UsageError):  # none, or another package's that cannot be loaded
        accuracy = None
    return {
        "space": name,
        "resolutions": list(space.resolutions),
        "ops": len(space.ops),
        "ops_at_one_resolution": len(space.ops_at([space.resolutions[-1]])),
        "architectures": space.size,
        "accuracy": accuracy,
    }
