"""The page: what a report shows of each table and of what searches found on them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from lutra.errors import LutraError
from lutra.files.kinds import REPORT_NAMED
from lutra.report.content import Content
from lutra.report.figures.drawing import Drawing
from lutra.report.figures.found import found_networks, objectives_shown, target_text
from lutra.report.figures.inline import inline_svg
from lutra.report.figures.network_time import network_time, shown_network
from lutra.report.figures.networks import predicted_against_measured
from lutra.report.figures.op_latencies import cliffs, latencies_by_resolution, latency_per_mac
from lutra.report.figures.steadiness import drift_and_noise
from lutra.report.summary import (
    RUN_COLUMNS,
    Facts,
    brief,
    facts,
    run_rows,
    target_facts,
    warnings,
)
from lutra.search.candidate import Candidate
from lutra.search.result import SearchResult
from lutra.spaces import Architecture
from lutra.text import printable_line

_TEMPLATE, _STYLE, _SCRIPT = "page.html.j2", "page.css", "page.js"
_MOST_CANDIDATES = 10


class Grid(NamedTuple):
    """A table of text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


class Figure(NamedTuple):
    """A figure of the page; ``reason`` is why there is no ``svg``."""

    name: str
    title: str
    caption: str
    svg: Any = None
    reason: str = ""


class TableSection(NamedTuple):
    """All that the page says of one table."""

    name: str
    heading: str
    facts: Facts
    warnings: Sequence[str]
    figures: Sequence[Figure]
    cliffs: Grid
    target: Facts
    runs: Grid


class ResultSection(NamedTuple):
    """What the page says of one search result."""

    heading: str
    facts: Facts
    candidates: Grid


def page(contents: Sequence[Content], results: Sequence[SearchResult]) -> str:
    """The HTML of a report: without a reference to anything outside of it, and with one script.

    Whatever tables and results hold is text there: the template escapes it, and the page's own
    policy has browsers run no script but ours.
    """
    import jinja2
    from markupsafe import Markup

    here = files("lutra.report")
    template, style, script = (
        (here / name).read_text(encoding="utf-8") for name in (_TEMPLATE, _STYLE, _SCRIPT)
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    tables = [
        _table_section(f"table-{number}", content, results)
        for number, content in enumerate(contents)
    ]
    return environment.from_string(template).render(
        generator=Markup(f'{REPORT_NAMED}">'),  # noqa: S704 (our own words)
        title=" and ".join(content.path.name for content in contents),
        style=Markup(style),  # noqa: S704 (our own files, of the package)
        script=Markup(script),  # noqa: S704
        script_digest=f"sha256-{digest}",
        tables=tables,
        side_by_side=_side_by_side(contents),
        found=_found(results),
        results=[_result_section(result) for result in results],
    )


def _shown(value: Any) -> Any:
    """Text of others without what moves a cursor or turns a line around."""
    return printable_line(value) if type(value) is str else value


def _table_section(name: str, content: Content, results: Sequence[SearchResult]) -> TableSection:
    return TableSection(
        name=name,
        heading=f"{content.path.name}: {target_text(content.target)}",
        facts=facts(content),
        warnings=warnings(content),
        figures=_figures(name, content, results),
        cliffs=_cliffs(content),
        target=target_facts(content),
        runs=Grid(RUN_COLUMNS, run_rows(content)),
    )


def _figures(name: str, content: Content, results: Sequence[SearchResult]) -> list[Figure]:
    found = _found_on(content, results)
    try:
        taken_apart, why = shown_network(content, found)
        whose = f"Its ops from input to output: {why}, {taken_apart.key}."
    except LutraError:
        whose = "Its ops from input to output."
    return [
        _figure(
            f"{name}-networks",
            "Predicted against measured",
            "Whole networks, with 95 % intervals of prediction and measurement. A good table has"
            " them on the line, and fresh ones off by no more than those it was fitted on.",
            lambda: predicted_against_measured(content),
        ),
        _figure(
            f"{name}-time",
            "Where a network's time goes",
            whose,
            lambda: network_time(content, shown_network(content, found)[0]),
        ),
        _figure(
            f"{name}-ops",
            "Latency of ops",
            "Each op alone, with its 95 % interval, by kind (k: kernel) and resolution.",
            lambda: latencies_by_resolution(content),
        ),
        _figure(
            f"{name}-macs",
            "Cliffs: latency per MAC",
            "Were MACs all that counts, this would be one flat line. The higher, the dearer the"
            " work of an op is on this target.",
            lambda: latency_per_mac(content),
        ),
        _figure(
            f"{name}-steadiness",
            "Drift and noise over the runs",
            "How far visits lie from their own workload's median, round by round, as measured:"
            " above what the references say of the machine, below how well workloads repeat."
            " Bands hold 80 % of a round's visits.",
            lambda: drift_and_noise(content),
        ),
    ]


def _figure(name: str, title: str, caption: str, draw: Callable[[], Drawing]) -> Figure:
    """A figure, or why there is none."""
    from markupsafe import Markup

    try:
        drawing = draw()
    except LutraError as error:
        return Figure(name, title, caption, reason=str(error))
    svg = inline_svg(drawing, name)
    return Figure(name, title, caption, Markup(svg))  # noqa: S704 (its texts were escaped)


def _found_on(content: Content, results: Sequence[SearchResult]) -> Architecture | None:
    """The best network of the first result that is of the table's target."""
    for result in results:
        if result.target == content.target:
            return result.best.architecture
    return None


def _cliffs(content: Content) -> Grid:
    return Grid(
        ("op", "times the median", "latency, ms", "MACs, millions"),
        [
            (
                op.config.key,
                f"{times:.1f}",
                f"{op.latency_ms:.4g}",
                f"{op.config.macs / 1e6:.3g}",
            )
            for op, times in cliffs(content)
        ],
    )


def _side_by_side(contents: Sequence[Content]) -> Grid:
    briefs = [brief(content) for content in contents]
    return Grid(
        ("table", *(name for name, _ in briefs[0])),
        [
            (content.path.name, *(value for _, value in each))
            for content, each in zip(contents, briefs, strict=True)
        ],
    )


def _found(results: Sequence[SearchResult]) -> list[Figure]:
    """A figure for the results that are over the same objectives, one on another."""
    groups: dict[tuple[str, ...], list[SearchResult]] = {}
    for result in results:
        groups.setdefault(objectives_shown(result)[:2], []).append(result)
    return [
        _figure(
            f"found-{number}",
            "Found networks",
            "What is predicted, with 95 % intervals of latency; a cross is what was measured, a"
            " dashed line a limit, and a ring the best network of a search that was for one.",
            lambda group=group: found_networks(group),  # type: ignore[misc]
        )
        for number, group in enumerate(groups.values() or [[]])
    ]


def _result_section(result: SearchResult) -> ResultSection:
    limits = ", ".join(f"{name} ≤ {value:g}" for name, value in result.limits.items())
    said: Facts = [
        ("searched table", result.table),
        ("target", result.target.summary()),
        ("limits", limits or "none"),
        ("algorithm", f"{result.algorithm}, seed {result.seed}"),
        ("scored", f"{result.evaluations:,} architectures in {result.cpu_seconds:.1f} CPU s"),
        *(("note", note) for note in result.notes),
    ]
    return ResultSection(
        f"{result.space} on {target_text(result.target)}",
        said,
        Grid(
            (
                *("accuracy, %", "predicted, ms", "measured, ms", "MACs, millions"),
                *("parameters, millions", "architecture"),
            ),
            [_candidate_row(each) for each in result.candidates[:_MOST_CANDIDATES]],
        ),
    )


def _candidate_row(candidate: Candidate) -> tuple[str, ...]:
    verified = candidate.verified
    return (
        f"{candidate.accuracy:.2f}",
        f"{candidate.predicted_ms:.4g}",
        "-" if verified is None else f"{verified.measured_ms:.4g}",
        f"{candidate.macs / 1e6:.1f}",
        f"{candidate.params / 1e6:.2f}",
        candidate.architecture.key,
    )
