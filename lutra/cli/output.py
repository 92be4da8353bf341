"""What commands print: data to stdout, everything else to stderr, JSON where asked for.

This is the one way out for text: what tables, devices and files say moves no cursor here, and
nothing else in lutra prints (`tests/test_architecture.py`).
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import click

import lutra
from lutra.cli.layout import folded, table_lines
from lutra.text import bounded, printable, printable_line

if TYPE_CHECKING:
    from lutra.tables import Target

_PLAIN_SECONDS = 10.0
_BAR = 20  # characters
_NOISY_PERCENT = 2.0  # half of what an op's interval may be


def line(text: str) -> None:
    """A line of data, on stdout."""
    _put(text, sys.stdout)


def note(text: str) -> None:
    """A remark for people, on stderr; above the progress bars, while there are any.

    What it quotes of others may be of any length; what is printed is not.
    """
    text = bounded(text)
    width = _terminal_columns(sys.stderr)  # not what it was before rich put something in its place
    for part in [text] if width is None or len(text) <= width else folded(printable(text), width):
        _put(part, sys.stderr)


def note_next(command: str) -> None:
    """The command that helps most now, on stderr, in one line that can be copied."""
    _put(f"next: {command}", sys.stderr)


def _terminal_columns(stream: TextIO | None) -> int | None:
    """The width of the terminal that a stream is; None where it is none."""
    try:
        if stream is None or not stream.isatty():
            return None
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):  # one that is closed or stands for another
        return None


def note_traceback(error: BaseException) -> None:
    """The traceback of an error, on stderr."""
    for text in traceback.format_exception(error):
        for part in text.splitlines():
            note(part)


def _put(text: str, stream: TextIO | None) -> None:
    """Print one line, with nothing in it that a terminal would obey or an encoding lacks.

    Where the stream was closed before the start (``>&-``) there is nobody to read it.
    """
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    safe = printable(text).encode(encoding, "replace").decode(encoding)
    click.echo(safe, file=stream)


def note_target(spec: str, target: Target) -> None:
    """Say what a run measures on."""
    from lutra.devices.remote.cores import cores_text

    plural = "s" if target.threads > 1 else ""
    threads = f"{target.threads} thread{plural}"
    how = [target.delegate, target.options, threads, cores_text(target.core_mask)]
    note(printable_line(f"{spec}: {target.runtime} ({', '.join(filter(None, how))})"))


def note_drift(drifted: int, networks: int) -> None:
    """Say so when networks were measured on a slower machine than the table's."""
    if drifted:
        note(
            f"{drifted} of {networks} networks were measured while the machine was slower than when"
            " the table was made: errors include that; run it again when the machine is idle"
        )


def note_noise(repeatability_percent: float) -> None:
    """Say so when networks repeat badly: no table can predict better than the machine repeats."""
    if repeatability_percent > _NOISY_PERCENT:
        note(
            f"the same networks differ by {repeatability_percent:.1f} % from one worker process to"
            " the next: other work disturbs this machine, or a shared one has busy neighbours."
            " Measured when it is quieter, predictions become better"
        )


def note_few(networks: int) -> None:
    """Say so when networks are too few to tell what 95 % of others do."""
    from lutra.predictors.efficiency.fitting import ENOUGH_NETWORKS

    if networks < ENOUGH_NETWORKS:
        note(
            f"{networks} networks tell little of others: the interval that predictions state is"
            f" wider for it, or still that of more of them; --networks {ENOUGH_NETWORKS} is enough"
        )


def print_json(document: Any) -> None:
    """A JSON document on stdout; null for numbers that are not known."""
    for text in json.dumps(_finite(document), indent=2, allow_nan=False).splitlines():
        line(text)


def _finite(value: Any) -> Any:
    """The value with None for NaN and what is infinite, which JSON lacks."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout; numbers to the right. Never cuts a cell, and fits a terminal."""
    cells = [[_cell(value) for value in row] for row in rows]
    right = [
        all(value is None or isinstance(value, int | float) for value in column)
        for column in zip(*rows, strict=True)
    ] or [False] * len(columns)
    for text in table_lines(columns, cells, right, _terminal_columns(sys.stdout)):
        line(text)


def bars(values: Sequence[float | None]) -> list[str]:
    """A bar for each value, the longest of the largest one; none where stdout is no terminal."""
    known = [value for value in values if value is not None]
    if _terminal_columns(sys.stdout) is None or not known:
        return []
    return ["#" * math.ceil(_BAR * (value or 0.0) / max(known)) for value in values]


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return printable(str(value))


class Report(Protocol):
    """Takes note of how far something is; ``eta_seconds`` may be NaN."""

    def __call__(self, done: int, expected: int, eta_seconds: float) -> None:
        """``done`` of ``expected`` steps."""


def watch(report: Report, budget_seconds: float = math.inf, spec: str | None = None) -> lutra.Watch:
    """What goes along with a measurement: reports, a budget, and for a spec what it runs on."""
    return lutra.Watch(
        budget_seconds=budget_seconds,
        on_ready=lambda target: note_target(spec, target) if spec is not None else None,
        on_progress=lambda at: report(at.done, at.expected, at.eta_seconds),
        on_note=lambda text: note(printable_line(text if spec is None else f"{spec}: {text}")),
    )


@contextmanager
def progress(label: str) -> Iterator[Report]:
    """A progress bar with an ETA on a terminal, a line every ten seconds otherwise."""
    with progress_of([label]) as reports:
        yield reports[label]


@contextmanager
def progress_of(labels: Sequence[str]) -> Iterator[Mapping[str, Report]]:
    """One display for several things at once, by their labels; reports may come from threads."""
    if sys.stderr is not None and sys.stderr.isatty():
        with _bars(labels) as reports:
            yield reports
    else:
        yield {label: _plain(label) for label in labels}


def with_eta(report: Report) -> Callable[[int, int], None]:
    """What tells a report how far it is, with the time left at the pace so far."""
    start = time.monotonic()

    def on_step(done: int, expected: int) -> None:
        passed = time.monotonic() - start
        report(done, expected, passed / done * (expected - done) if done else math.nan)

    return on_step


def _plain(label: str) -> Report:
    last = time.monotonic()

    def report(done: int, expected: int, eta_seconds: float) -> None:
        nonlocal last
        if time.monotonic() - last >= _PLAIN_SECONDS:
            last = time.monotonic()
            note(printable(f"{label}: {done}/{expected}{_eta(eta_seconds)}"))

    return report


def _eta(seconds: float) -> str:
    return f", {seconds:.0f} s left" if seconds == seconds else ""


@contextmanager
def _bars(labels: Sequence[str]) -> Iterator[Mapping[str, Report]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[eta]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def reporter(label: str) -> Report:
            task = bars.add_task(printable(label), total=None, eta="")

            def report(done: int, expected: int, eta_seconds: float) -> None:
                eta = _eta(eta_seconds).lstrip(", ")
                bars.update(task, completed=done, total=expected, eta=eta)

            return report

        yield {label: reporter(label) for label in labels}
