"""What the lines of ``benchmark_model``'s output say, before anything is concluded from them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from lutra.text import one_line

_LIMIT = 1_000_000  # characters looked at; a log with profiles of 77 operators has 21,000
_SHORT = 200  # characters of the program's own words that a message repeats

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
_SESSION = re.compile(rf"Initialized session in (?P<ms>{_NUMBER})ms\.?")
_GROWN = re.compile(rf"Memory footprint delta .{{1,40}}: init={_NUMBER} overall=(?P<mib>{_NUMBER})")
_REPLACED = re.compile(
    r"Replacing (?P<taken>[0-9]{1,9}) out of (?P<all>[0-9]{1,9}) node\(s\) with delegate"
)
_UNCONSUMED = "Unconsumed cmdline flags:"
_FAILED = "Benchmarking failed"
_TROUBLE = re.compile(
    r"ERROR|FATAL|[Ee]rror\b|[Ff]ailed|denied|not found|CANNOT LINK|Killed|Aborted"
    r"|Segmentation fault|Illegal instruction"
)


@dataclass(frozen=True)
class Series:
    """The figures of one series of runs, in ms; ``rounding_ms`` is how far each may be off."""

    runs: int
    mean: float
    minimum: float
    maximum: float
    median: float | None = None
    rounding_ms: float = 0.0


@dataclass
class Log:
    """What the lines said, before anything is concluded from them."""

    starts: int = 0
    series: int = 0  # "Running benchmark" lines: one announces each series of runs
    stats: list[tuple[int, Series]] = field(default_factory=list)  # series announced by then
    torn: str | None = None
    flags: str | None = None
    failed: bool = False
    summaries: list[dict[str, float]] = field(default_factory=list)
    blocks: int = 0
    block_ms: dict[str, float] = field(default_factory=dict)
    block_runs: dict[str, int] = field(default_factory=dict)
    session_ms: float | None = None
    delegated: tuple[int, int] | None = None
    grown_mib: float | None = None
    last: str = ""
    trouble: str = ""

    @property
    def words(self) -> str:
        """The line that a message repeats; it begins with its own punctuation."""
        words = shorten(self.trouble or self.last)
        return f"; it said: {words}" if words else ": its output is empty"


def read_log(output: str | Iterable[str]) -> Log:
    """What ``output`` says, one text or its lines (as ``splitlines`` gives them).

    The last line of a text counts only when it is ended: digits may be missing from it. Of lines
    that all lack their ends, each is taken as whole. Looks at the first million characters.
    """
    log = Log()
    for line, ended in _lines(_text(output)):
        _read_line(log, line, ended)
    return log


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


def _read_line(log: Log, line: str, ended: bool) -> None:
    _note_for_messages(log, line)
    if not ended:
        return
    body = _PREFIX.sub("", line, count=1).strip(" \t")  # it matches at the start, if only ""
    for start, read in _READERS:
        if body.startswith(start):
            read(log, body)
            return
    _read_anywhere(log, line)


def _note_for_messages(log: Log, line: str) -> None:
    if _FAILED in line:
        log.failed = True
    elif any(character.isalnum() for character in line):
        log.last = line[: 4 * _SHORT]
        if _TROUBLE.search(log.last):
            log.trouble = log.last


def _read_start(log: Log, body: str) -> None:
    log.starts += 1


def _read_series(log: Log, body: str) -> None:
    log.series += 1


def _read_stat(log: Log, body: str) -> None:
    match = _STAT.fullmatch(body)
    stat = _stat(match) if match else None
    if stat is None:
        log.torn = body
    else:
        log.stats.append((log.series, stat))


def _stat(match: re.Match[str]) -> Series | None:
    """The series of a ``count=`` line; None when the line lacks what its count calls for."""
    runs = int(match["count"])
    median = float(match["median"]) / 1000 if match["median"] else None
    if runs == 0:
        return Series(0, math.nan, math.nan, math.nan)
    if match["avg"]:
        mean, minimum, maximum = (float(match[name]) / 1000 for name in ("avg", "min", "max"))
        return Series(runs, mean, minimum, maximum, median)
    if match["curr"] and (runs == 1 or match["same"]):
        time = float(match["curr"]) / 1000
        return Series(runs, time, time, time, median)
    return None


def _read_summary(log: Log, body: str) -> None:
    parts = body.partition(" in us: ")[2][: 4 * _SHORT]
    log.summaries.append(
        {match["name"]: float(match["us"]) / 1000 for match in _SUMMARY_PART.finditer(parts)}
    )


def _read_session(log: Log, body: str) -> None:
    if match := _SESSION.fullmatch(body):
        log.session_ms = float(match["ms"])


def _read_block(log: Log, body: str) -> None:
    if _BLOCK_START.fullmatch(body):
        log.blocks += 1


def _read_block_line(log: Log, body: str) -> None:
    match = _BLOCK_LINE.fullmatch(body)
    if match and log.blocks == 1:
        log.block_ms[match["name"]] = float(match["ms"])
        log.block_runs[match["name"]] = int(match["runs"] or 0)


def _read_grown(log: Log, body: str) -> None:
    if match := _GROWN.fullmatch(body):
        log.grown_mib = float(match["mib"])


_READERS: tuple[tuple[str, Callable[[Log, str], None]], ...] = (
    ("STARTING!", _read_start),
    ("Running benchmark for ", _read_series),
    ("count=", _read_stat),
    ("Inference timings in us: ", _read_summary),
    ("Average inference timings in us: ", _read_summary),
    ("Initialized session in ", _read_session),
    ("Memory footprint delta ", _read_grown),
    ("===", _read_block),
    ("Model initialization:", _read_block_line),
    ("Warmup (", _read_block_line),
    ("Inference (", _read_block_line),
)


def _read_anywhere(log: Log, line: str) -> None:
    if _UNCONSUMED in line:
        log.flags = line.partition(_UNCONSUMED)[2]
    # Later lines speak of what an earlier delegate left over and count its share as one node.
    if log.delegated is None and (match := _REPLACED.search(line)):
        taken, nodes = int(match["taken"]), int(match["all"])
        log.delegated = (nodes, taken) if taken <= nodes else None


def shorten(words: str) -> str:
    """One printable line of at most `_SHORT` characters."""
    line = one_line("".join(c if c.isprintable() else " " for c in words[: 4 * _SHORT]))
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 3]}..."
