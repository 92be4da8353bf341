"""lutra table diff: what a second table says otherwise than a first."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

import lutra
from lutra.cli.options import FILE, as_json, network_option, plot_option, space_option
from lutra.cli.output import line, note, print_json, print_table
from lutra.errors import UsageError

if TYPE_CHECKING:
    from lutra.inspection.changes import Change
    from lutra.inspection.diff import RowChange, TableDiff

_SLOWER = 3
_COLUMNS = ["a_ms", "b_ms", "change_percent", "from", "to"]

_DEVICE_COLUMNS = ["device_a_ms", "device_b_ms", "device_change_percent"]


@click.command("diff")
@click.argument("a", type=FILE)
@click.argument("b", type=FILE)
@click.option(
    "--differs",
    metavar="FIELD,...",
    default="",
    help="What of the target differs on purpose, such as runtime_version.",
)
@click.option("--fail-above", metavar="3%", help="End with 3 where B is slower by more, overall.")
@click.option(
    "--top", type=click.IntRange(0), default=5, show_default=True, help="Ops that explain it."
)
@space_option
@plot_option
@network_option
@as_json
def command(
    a: Path,
    b: Path,
    differs: str,
    fail_above: str | None,
    top: int,
    space_name: str | None,
    plot: Path | None,
    as_json: bool,
) -> int:
    """What table B says otherwise than table A: overall, per kind, and the ops that explain it.

    A change above 0 is slower. Ends with 3 where it is more than --fail-above.
    """
    limit = None if fail_above is None else _parse_percent(fail_above)
    names = [name.strip() for name in differs.split(",") if name.strip()]
    if plot is not None:
        from lutra.report.figures.picture import check_picture

        check_picture(plot)
    found = lutra.diff_tables(a, b, space=space_name, differs=names)
    if plot is not None:
        from lutra.report.figures.difference import difference
        from lutra.report.figures.picture import write_picture

        write_picture(difference(found.to_frame()), plot)
    failed = limit is not None and found.overall.percent > limit
    if as_json:
        print_json({**found.to_json(), "fail_above_percent": limit, "failed": failed})
    else:
        _show(found, top)
    if limit is not None:
        _note_limit(found, limit)
    return _SLOWER if failed else 0


def _parse_percent(text: str) -> float:
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        percent = -1.0
    if not 0.0 <= percent < float("inf"):
        raise UsageError(f"--fail-above {text}: write a percentage of 0 or more, such as 3%")
    return percent


def _show(found: TableDiff, top: int) -> None:
    for name, (mine, theirs) in found.differing.items():
        note(f"{name}: {mine} in {found.a}, {theirs} in {found.b}")
    rows: list[list[object]] = []
    if found.networks is not None:
        rows.append([f"{found.networks_measured} networks", *_cells(found.networks), None])
    if found.ops is not None:
        rows.append(["all ops of a network", *_cells(found.ops), found.ops.percent])
    rows += [[kind.kind, *_cells(kind.change), kind.share] for kind in found.kinds]
    if rows:
        print_table(["what", *_COLUMNS, "beyond_the_state", "of_the_change"], rows)
    whole = [row for row in found.rows if row.category == "network"]
    listed = found.explaining(top) if found.ops is not None else whole
    if listed:
        line("")
        columns = ["row", *_COLUMNS, "beyond_the_state", "of_the_change"]
        cells = [[row.key, *_cells(row.change), row.share] for row in listed]
        if any(row.device_ms for row in listed):
            columns += _DEVICE_COLUMNS
            cells = [[*own, *_device(row)] for own, row in zip(cells, listed, strict=True)]
        print_table(columns, cells)
    _note_rows(found, [row for row in found.rows if row.category == "op"] or whole)
    if found.known is not None:
        note(_overall_text(found))
    note(_state_text(found))


def _cells(change: Change) -> list[object]:
    numbers = (change.percent, change.low_percent, change.high_percent)
    percents = [f"{value:+.2f}" for value in numbers]
    return [change.a_ms, change.b_ms, *percents, change.verdict]


def _device(row: RowChange) -> list[object]:
    """What the device alone needed, and its change: the rest is the host's."""
    if row.device_ms is None:
        return [None] * len(_DEVICE_COLUMNS)
    a_ms, b_ms = row.device_ms
    return [a_ms, b_ms, f"{100.0 * (b_ms / a_ms - 1.0):+.2f}"]


def _note_rows(found: TableDiff, rows: list[RowChange]) -> None:
    what = "ops" if rows and rows[0].category == "op" else "networks"
    counts = Counter(row.change.verdict for row in rows)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    beside = (
        f" beyond what all have in common ({found.common_percent:+.2f} %), which the machine's"
        " state may have done"
        if found.common_percent is not None and what == "ops"
        else ""
    )
    note(f"{len(rows)} {what}: {told}{beside}")
    if found.only_a or found.only_b:
        note(f"not compared: {found.only_a} rows of {found.a} alone, {found.only_b} of {found.b}")


def _overall_text(found: TableDiff) -> str:
    change = found.overall
    of = f"{found.networks_measured} networks" if found.of_networks else "the sum of their ops"
    where = "" if found.separated else ", as measured"
    return (
        f"overall, by {of}{where}: {change.verdict}, {change.percent:+.2f} %"
        f" ({change.low_percent:+.2f} to {change.high_percent:+.2f} %)"
    )


def _state_text(found: TableDiff) -> str:
    state = found.state
    if found.separated:
        return (
            f"the interval includes what the machine's state does, by {state.runs} runs within"
            f" {state.span_hours:.3g} h; the tables lie {state.apart_hours:.3g} h apart"
        )
    return (
        f"the tables lie {state.apart_hours:.3g} h apart, and no runs over as long a time tell what"
        " the machine's state alone does meanwhile: a change that all ops have in common is not"
        f" separated from it, nor one that it hides. `lutra profile --again` into {found.a}, after"
        f" {found.b}, and on other days, tells"
    )


def _note_limit(found: TableDiff, limit: float) -> None:
    change = found.overall
    above = change.percent > limit
    sure = found.separated and (change.low_percent > limit or change.high_percent <= limit)
    if sure:
        how = "surely"
    elif not found.separated:
        how = "by its middle, with the machine's state in it"
    else:
        how = f"by its middle alone: it may be {change.low_percent:+.2f} to"
        how += f" {change.high_percent:+.2f} %"
    word = "above" if above else "not above"
    note(f"{change.percent:+.2f} % is {word} {limit:g} %, {how}")
