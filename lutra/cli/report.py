"""lutra report: a page with pictures about tables and search results."""

from __future__ import annotations

from pathlib import Path

import click

import lutra
from lutra.cli.options import FILE, as_json, network_option
from lutra.cli.output import line, print_json
from lutra.errors import UsageError

_SEEN_BYTES = 16


@click.command("report")
@click.argument("files", type=FILE, nargs=-1, required=True, metavar="TABLE... [RESULT...]")
@click.option("-o", "--output", type=FILE, required=True, help="The page, such as report.html.")
@network_option
@as_json
def command(files: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Write one page about tables, and what searches found on them, that needs nothing else.

    Every TABLE has a section with figures, several are compared; RESULT files are those of `lutra
    search -o`.
    """
    tables = [path for path in files if _is_table(path)]
    results = [path for path in files if path not in tables]
    if not tables:
        raise UsageError(
            f"{', '.join(map(str, results))}: a report is about a table at least; name the one that"
            " was searched too"
        )
    lutra.write_report(tables, results, output)
    if as_json:
        print_json(
            {"report": str(output), "tables": [*map(str, tables)], "results": [*map(str, results)]}
        )
        return
    line(str(output))


def _is_table(path: Path) -> bool:
    """Whether a file is a table, by its first bytes; raises `UsageError`."""
    from lutra.files.kinds import TABLE, is_there

    if is_there(path) and not path.is_file():
        raise UsageError(f"{path} is no regular file: name a table or a search's result")
    try:
        with path.open("rb") as file:
            return TABLE.is_one(file.read(_SEEN_BYTES))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read {path}: {reason}") from error
