"""Read what one run of TFLite's ``benchmark_model`` printed, stdout and stderr in one text.

Two programs go by that name. Both print a ``count=`` line in microseconds after the warm-up and
one after the measurement, also when they ran nothing (``count=0``):

* the interpreter build (TensorFlow's ``benchmark_model.cc``, ``stats_calculator.h``) closes with
  ``Inference timings in us: ...``, in 2018 and 2019 with ``Average inference timings in us: ...``;
* the CompiledModel build (LiteRT's ``benchmark_litert_model.h``) closes with a block in
  milliseconds, ``BENCHMARK RESULTS``, on stderr. It is rounded to 0.01 ms, so its figures are
  used only where the text holds nothing of stdout.

A text without that close is refused: the program was stopped, or its output cut off. For a text
cut off at any point to be refused or read alike, stdout must come first or both as they came.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from lutra.text import one_line

Program = Literal["interpreter", "compiled-model"]

_LIMIT = 1_000_000  # characters looked at; a log with profiles of 77 operators has 21,000
_SHORT = 200  # characters of the program's own words that a message repeats
_AVERAGE_DIGITS = 1e-5  # averages are printed with six digits
_BLOCK_MS = 0.0051  # half of the last digit of the block, and a little for its binary fraction

_ANSI = re.compile(r"\x1b\[[0-?]{0,32}[ -/]{0,8}[@-~]")
_PREFIX = re.compile(
    r"(?:"
    r"(?:VERBOSE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL): {1,4}"  # TFLite's and LiteRT's own
    r"|[IWEF][0-9]{4} [0-9:.]{8,24} {1,8}[0-9]{1,10} [^\s\]:]{1,200}:[0-9]{1,6}\] "  # absl
    r"|\[[^\s\]]{1,200}:[0-9]{1,6}\] {0,4}"  # LiteRT's file and line
    r"|[VDIWEF]/[^\s(:]{1,40} {0,20}\( {0,10}[0-9]{1,10}\): "  # logcat, brief
    r"|[0-9]{2}-[0-9]{2} [0-9:.]{8,24} {1,10}[0-9]{1,10} {1,10}[0-9]{1,10} [VDIWEF] "
    r"[^\s:]{1,40} {0,20}: "  # logcat, threadtime
    r"){0,4}"
)
_NUMBER = r"-?(?:[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e[+-]?[0-9]{1,3})?|nan|inf)"
_STAT = re.compile(
    rf"count=(?P<count>[0-9]{{1,18}})"
    rf"(?:(?: first={_NUMBER})? curr=(?P<curr>{_NUMBER})(?P<same>\(all same\))?)?"
    rf"(?: min=(?P<min>{_NUMBER}) max=(?P<max>{_NUMBER}) avg=(?P<avg>{_NUMBER}) std={_NUMBER})?"
    rf"(?: p5={_NUMBER} median=(?P<median>{_NUMBER}) p95={_NUMBER})?"
)
_BLOCK_START = re.compile(r"={3,80} BENCHMARK RESULTS ={3,80}")
_BLOCK_LINE = re.compile(
    r"(?P<name>Model initialization|(?:Warmup|Inference) \((?:first|avg|min|max)\)): {1,40}"
    rf"(?P<ms>{_NUMBER}) ms(?: \((?P<runs>[0-9]{{1,18}}) runs\))?"
)
_SUMMARY_PART = re.compile(rf"(?P<name>[A-Z][A-Za-z ()]{{1,30}}|no stats): (?P<us>{_NUMBER})")
_SUMMARY_AVERAGES = ("Inference (avg)", "Inference", "no stats")
_SESSION = re.compile(rf"Initialized session in (?P<ms>{_NUMBER})ms\.?")
_REPLACED = re.compile(
    r"Replacing (?P<taken>[0-9]{1,9}) out of (?P<all>[0-9]{1,9}) node\(s\) with delegate"
)
_UNCONSUMED = "Unconsumed cmdline flags:"
_FAILED = "Benchmarking failed"
_TROUBLE = re.compile(
    r"ERROR|FATAL|[Ee]rror\b|[Ff]ailed|denied|not found|CANNOT LINK|Killed|Aborted"
    r"|Segmentation fault|Illegal instruction"
)


class BenchmarkOutputError(ValueError):
    """The output holds no measurement that can be trusted; ``str(error)`` is one line."""


@dataclass(frozen=True)
class BenchmarkRun:
    """What one run of the program measured, in milliseconds.

    ``mean_ms`` has six significant digits; where only the block of the CompiledModel build was
    there, all times are rounded to 0.01 ms. ``init_ms`` is the time until the model was ready.
    ``warmup_runs`` is 0, and ``warmup_mean_ms`` None, when nothing was warmed up or the text does
    not tell. ``delegated`` counts the model's operators and those that its first delegate took;
    None when no line counts both.
    """

    runs: int
    mean_ms: float
    minimum_ms: float
    maximum_ms: float
    median_ms: float | None
    init_ms: float | None
    warmup_runs: int
    warmup_mean_ms: float | None
    program: Program
    delegated: tuple[int, int] | None


@dataclass(frozen=True)
class _Stat:
    """The figures of one series of runs, in ms; ``rounding_ms`` is how far each may be off."""

    runs: int
    mean: float
    minimum: float
    maximum: float
    median: float | None = None
    rounding_ms: float = 0.0


@dataclass
class _Log:
    """What the lines said, before anything is concluded from them."""

    starts: int = 0
    series: int = 0  # "Running benchmark" lines: one announces each series of runs
    stats: list[tuple[int, _Stat]] = field(default_factory=list)  # series announced by then
    torn: str | None = None
    flags: str | None = None
    failed: bool = False
    summaries: list[dict[str, float]] = field(default_factory=list)
    blocks: int = 0
    block_ms: dict[str, float] = field(default_factory=dict)
    block_runs: dict[str, int] = field(default_factory=dict)
    session_ms: float | None = None
    delegated: tuple[int, int] | None = None
    last: str = ""
    trouble: str = ""

    @property
    def words(self) -> str:
        """The line that a message repeats; it begins with its own punctuation."""
        words = _shorten(self.trouble or self.last)
        return f"; it said: {words}" if words else ": its output is empty"


def parse_benchmark(output: str | Iterable[str]) -> BenchmarkRun:
    """The measurement in ``output``, one text or its lines (as ``splitlines`` gives them).

    The last line of a text counts only when it is ended: digits may be missing from it. Of lines
    that all lack their ends, each is taken as whole. Looks at the first million characters.

    Raises:
        BenchmarkOutputError: flags the program ignored, no or several measurements, a dry run,
            figures that contradict each other, a failed run, or an end that is missing.
    """
    log = _Log()
    for line, ended in _lines(_text(output)):
        _read_line(log, line, ended)
    _refuse(log)
    stat, warmup = _series(log)
    program = _program(log)
    _check_stat(stat)
    _check_close(log, stat)
    return BenchmarkRun(
        runs=stat.runs,
        mean_ms=stat.mean,
        minimum_ms=stat.minimum,
        maximum_ms=stat.maximum,
        median_ms=stat.median,
        init_ms=_init_ms(log),
        warmup_runs=warmup.runs if warmup else 0,
        warmup_mean_ms=_positive(warmup.mean) if warmup and warmup.runs else None,
        program=program,
        delegated=log.delegated,
    )


def _text(output: str | Iterable[str]) -> str:
    """At most `_LIMIT` characters; lines that lack their end get one, if all of them do."""
    if isinstance(output, str):
        return output[:_LIMIT]
    pieces: list[str] = []
    length = 0
    for line in output:
        pieces.append(line[:_LIMIT])
        length += len(line) + 1
        if length > _LIMIT:
            break
    if any(piece.endswith("\n") for piece in pieces):
        return "".join(pieces)[:_LIMIT]
    return "".join(f"{piece}\n" for piece in pieces)[:_LIMIT]


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Each line that says something, without colours, and whether it is ended.

    A terminal ends lines in CR LF. ``str.splitlines`` would also split at form feeds and such.
    """
    *ended, rest = text.replace("\r", "\n").split("\n")
    for line in ended:
        if clean := _ANSI.sub("", line).strip(" \t"):
            yield clean, True
    if clean := _ANSI.sub("", rest).strip(" \t"):
        yield clean, False


def _read_line(log: _Log, line: str, ended: bool) -> None:
    _note_for_messages(log, line)
    if not ended:
        return
    body = _PREFIX.sub("", line, count=1).strip(" \t")  # it matches at the start, if only ""
    for start, read in _READERS:
        if body.startswith(start):
            read(log, body)
            return
    _read_anywhere(log, line)


def _note_for_messages(log: _Log, line: str) -> None:
    if _FAILED in line:
        log.failed = True
    elif any(character.isalnum() for character in line):
        log.last = line[: 4 * _SHORT]
        if _TROUBLE.search(log.last):
            log.trouble = log.last


def _read_start(log: _Log, body: str) -> None:
    log.starts += 1


def _read_series(log: _Log, body: str) -> None:
    log.series += 1


def _read_stat(log: _Log, body: str) -> None:
    match = _STAT.fullmatch(body)
    stat = _stat(match) if match else None
    if stat is None:
        log.torn = body
    else:
        log.stats.append((log.series, stat))


def _stat(match: re.Match[str]) -> _Stat | None:
    """The series of a ``count=`` line; None when the line lacks what its count calls for."""
    runs = int(match["count"])
    median = float(match["median"]) / 1000 if match["median"] else None
    if runs == 0:
        return _Stat(0, math.nan, math.nan, math.nan)
    if match["avg"]:
        mean, minimum, maximum = (float(match[name]) / 1000 for name in ("avg", "min", "max"))
        return _Stat(runs, mean, minimum, maximum, median)
    if match["curr"] and (runs == 1 or match["same"]):
        time = float(match["curr"]) / 1000
        return _Stat(runs, time, time, time, median)
    return None


def _read_summary(log: _Log, body: str) -> None:
    parts = body.partition(" in us: ")[2][: 4 * _SHORT]
    log.summaries.append(
        {match["name"]: float(match["us"]) / 1000 for match in _SUMMARY_PART.finditer(parts)}
    )


def _read_session(log: _Log, body: str) -> None:
    if match := _SESSION.fullmatch(body):
        log.session_ms = float(match["ms"])


def _read_block(log: _Log, body: str) -> None:
    if _BLOCK_START.fullmatch(body):
        log.blocks += 1


def _read_block_line(log: _Log, body: str) -> None:
    match = _BLOCK_LINE.fullmatch(body)
    if match and log.blocks == 1:
        log.block_ms[match["name"]] = float(match["ms"])
        log.block_runs[match["name"]] = int(match["runs"] or 0)


_READERS: tuple[tuple[str, Callable[[_Log, str], None]], ...] = (
    ("STARTING!", _read_start),
    ("Running benchmark for ", _read_series),
    ("count=", _read_stat),
    ("Inference timings in us: ", _read_summary),
    ("Average inference timings in us: ", _read_summary),
    ("Initialized session in ", _read_session),
    ("===", _read_block),
    ("Model initialization:", _read_block_line),
    ("Warmup (", _read_block_line),
    ("Inference (", _read_block_line),
)


def _read_anywhere(log: _Log, line: str) -> None:
    if _UNCONSUMED in line:
        log.flags = line.partition(_UNCONSUMED)[2]
    # Later lines speak of what an earlier delegate left over and count its share as one node.
    if log.delegated is None and (match := _REPLACED.search(line)):
        taken, nodes = int(match["taken"]), int(match["all"])
        log.delegated = (nodes, taken) if taken <= nodes else None


def _refuse(log: _Log) -> None:
    """Raise for what makes every figure in the text worthless."""
    if log.flags is not None:
        raise BenchmarkOutputError(
            f"benchmark_model ignored unknown flags (unconsumed): {_shorten(log.flags)}"
        )
    if log.failed:
        raise BenchmarkOutputError(f"benchmark_model says that it failed{log.words}")
    if log.torn is not None:
        raise BenchmarkOutputError(
            f"a line of benchmark_model's output is damaged: {_shorten(log.torn)}"
        )
    closes = log.blocks + len(log.summaries)
    if log.starts > 1 or log.series > 2 or len(log.stats) > 2 or closes > 1:
        raise BenchmarkOutputError("the output holds several runs of benchmark_model, not one")
    if not (log.stats or closes):
        raise BenchmarkOutputError(f"benchmark_model measured nothing{log.words}")


def _program(log: _Log) -> Program:
    """Which program it was, told by how its output closes."""
    if log.summaries:
        return "interpreter"
    if "Inference (avg)" in log.block_ms:
        return "compiled-model"
    raise BenchmarkOutputError(f"benchmark_model's output ends before its results{log.words}")


def _series(log: _Log) -> tuple[_Stat, _Stat | None]:
    """The measurement and, where the text tells of it, the warm-up."""
    if log.blocks and not (log.stats or log.series or log.starts):
        return _block_series(log)
    # The program prints a line for a warm-up of no runs, too. Thus one line alone is a warm-up,
    # unless it stands behind the announcement of the second series.
    announced = log.stats[-1][0] if log.stats else 0
    measured = len(log.stats) == 2 or announced == 2
    if not measured or announced < log.series:
        raise BenchmarkOutputError(f"benchmark_model stopped before measuring{log.words}")
    return log.stats[-1][1], log.stats[0][1] if len(log.stats) == 2 else None


def _block_series(log: _Log) -> tuple[_Stat, _Stat | None]:
    """The figures of the block, for want of stdout and its more precise ones."""
    times, runs = log.block_ms, log.block_runs
    count = runs.get("Inference (avg)", 0)
    if "Inference (avg)" not in times or (count and "Inference (max)" not in times):
        raise BenchmarkOutputError(f"benchmark_model's results end too early{log.words}")
    mean, minimum, maximum = (
        times.get(f"Inference ({name})", math.nan) for name in ("avg", "min", "max")
    )
    warmup = times.get("Warmup (avg)", math.nan)
    return (
        _Stat(count, mean, minimum, maximum, rounding_ms=2 * _BLOCK_MS),
        _Stat(runs.get("Warmup (avg)", 0), warmup, warmup, warmup),
    )


def _check_stat(stat: _Stat) -> None:
    """Raise for a series that took no time or contradicts itself."""
    if stat.runs == 0:
        raise BenchmarkOutputError("benchmark_model ran the model 0 times (a dry run?)")
    figures = {"minimum": stat.minimum, "mean": stat.mean, "maximum": stat.maximum}
    if stat.median is not None:
        figures["median"] = stat.median
    for name, figure in figures.items():
        if _positive(figure) is None:
            raise BenchmarkOutputError(
                f"benchmark_model reports a {name} of {figure:g} ms: "
                "nothing ran, or faster than the program can tell"
            )
    slack = stat.rounding_ms + stat.maximum * _AVERAGE_DIGITS
    if not all(stat.minimum - slack <= f <= stat.maximum + slack for f in figures.values()):
        listed = ", ".join(f"{name} {figure:g} ms" for name, figure in figures.items())
        raise BenchmarkOutputError(f"benchmark_model contradicts itself: {listed}")


def _check_close(log: _Log, stat: _Stat) -> None:
    """Raise when the close speaks of another measurement than the ``count=`` line."""
    closing = log.summaries[0] if log.summaries else {}
    said = next((closing[name] for name in _SUMMARY_AVERAGES if name in closing), None)
    slack = stat.mean * _AVERAGE_DIGITS
    if log.blocks:
        said, slack = log.block_ms["Inference (avg)"], slack + _BLOCK_MS
        if log.block_runs["Inference (avg)"] != stat.runs:
            said = math.nan
    if said is not None and not abs(said - stat.mean) <= slack:
        raise BenchmarkOutputError(
            f"benchmark_model contradicts itself: {stat.runs} runs of {stat.mean:g} ms, "
            "but its results close with other figures"
        )


def _init_ms(log: _Log) -> float | None:
    closing = log.summaries[0] if log.summaries else {}
    for value in (log.session_ms, closing.get("Init"), log.block_ms.get("Model initialization")):
        if value is not None and math.isfinite(value) and value >= 0:
            return value
    return None


def _positive(value: float) -> float | None:
    return value if math.isfinite(value) and value > 0 else None


def _shorten(words: str) -> str:
    """One printable line of at most `_SHORT` characters."""
    line = one_line("".join(c if c.isprintable() else " " for c in words[: 4 * _SHORT]))
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 3]}..."
