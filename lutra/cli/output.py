"""What commands print: data to stdout, everything else to stderr, JSON where asked for."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import click

if TYPE_CHECKING:
    from lutra.profiler.run import Progress

_PLAIN_SECONDS = 10.0


def note(text: str) -> None:
    """A remark for people, on stderr."""
    click.echo(text, err=True)


def note_drift(drifted: int, networks: int) -> None:
    """Say so when networks were measured on a slower machine than the table's."""
    if drifted:
        note(
            f"{drifted} of {networks} networks were measured while the machine was slower than when"
            " the table was made: errors include that; run it again when the machine is idle"
        )


def print_json(document: Any) -> None:
    """A JSON document on stdout."""
    click.echo(json.dumps(document, indent=2, allow_nan=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """A table on stdout; numbers to the right. Never cuts a cell, on a pipe too."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    right = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))]
    if title:
        click.echo(click.style(title, bold=True))
    for line in (list(columns), *cells):
        padded = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        ]
        click.echo("  ".join(padded).rstrip())


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


class Report(Protocol):
    """Takes note of how far something is; ``eta_seconds`` may be NaN."""

    def __call__(self, done: int, expected: int, eta_seconds: float) -> None:
        """``done`` of ``expected`` steps."""


def visits_to(report: Report) -> Callable[[Progress], None]:
    """What a measuring run calls to have its progress reported."""
    return lambda at: report(at.done, at.expected, at.eta_seconds)


@contextmanager
def progress(label: str) -> Iterator[Report]:
    """A progress bar with an ETA on a terminal, a line every ten seconds otherwise."""
    if sys.stderr.isatty():
        with _bar(label) as report:
            yield report
    else:
        yield _plain(label)


def _plain(label: str) -> Report:
    last = time.monotonic()

    def report(done: int, expected: int, eta_seconds: float) -> None:
        nonlocal last
        if time.monotonic() - last >= _PLAIN_SECONDS:
            last = time.monotonic()
            note(f"{label}: {done}/{expected}{_eta(eta_seconds)}")

    return report


def _eta(seconds: float) -> str:
    return f", {seconds:.0f} s left" if seconds == seconds else ""


@contextmanager
def _bar(label: str) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn(label),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[eta]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, eta="")

        def report(done: int, expected: int, eta_seconds: float) -> None:
            bar.update(task, completed=done, total=expected, eta=_eta(eta_seconds).lstrip(", "))

        yield report
