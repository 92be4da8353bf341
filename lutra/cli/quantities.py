"""Quantities as people write them: ``20ms``, ``850us``, ``10m``, ``300M``, ``1%``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from lutra.errors import UsageError

# One list for whatever is a time; the case of letters does not matter.
_MILLISECONDS = {
    "ns": 1e-6,
    "us": 1e-3,
    "\N{GREEK SMALL LETTER MU}s": 1e-3,  # the micro sign too: it is casefolded to this letter
    "ms": 1.0,
    "s": 1e3,
    "m": 60e3,
    "min": 60e3,
    "h": 3600e3,
    "d": 86400e3,
}
_UNITS = "ns, us, ms, s, m (minutes), h or d"
_COUNTS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_BYTES = {**_COUNTS, "K": 1e3, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
_NUMBER = r"([0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)"


def parse_latency_ms(text: str) -> float:
    """``20ms``, ``850us``, ``0.02s`` in milliseconds; raises `UsageError` without a unit."""
    return _milliseconds(text, "latency", "20ms")


def parse_seconds(text: str) -> float:
    """``90s``, ``10m``, ``500ms`` in seconds; raises `UsageError` without a unit."""
    return _milliseconds(text, "time", "10m") / 1e3


def is_time(text: str) -> bool:
    """Whether the text is a number and a unit of time."""
    return _time(text) is not None


def _milliseconds(text: str, what: str, example: str) -> float:
    match = _time(text)
    if match is None:
        raise UsageError(
            f"'{text}' is not a {what}; write a positive number and a unit ({_UNITS}), as {example}"
        )
    return _positive(float(match[1]) * _MILLISECONDS[match[2]], text)


def _time(text: str) -> re.Match[str] | None:
    units = "|".join(_MILLISECONDS)
    return re.fullmatch(rf"\s*{_NUMBER}\s*({units})\s*", text.casefold())


def parse_count(text: str) -> float:
    """``300M``, ``1.2G``, ``250000000`` as a number; raises `UsageError` for anything else."""
    match = re.fullmatch(rf"\s*{_NUMBER}\s*([kMG]?)\s*", text)
    if match is None:
        raise UsageError(f"'{text}' is not a count; write a positive number, as 300M")
    return _positive(float(match.group(1)) * _COUNTS[match.group(2)], text)


def parse_bytes(text: str) -> float:
    """``20M``, ``512kB``, ``1.5MiB`` in bytes; raises `UsageError` for anything else."""
    match = re.fullmatch(rf"\s*{_NUMBER}\s*([kKMG]?|[KMG]i)B?\s*", text)
    if match is None:
        raise UsageError(
            f"'{text}' is no size of memory; write a positive number of bytes, as 20M or 512KiB"
        )
    return _positive(float(match.group(1)) * _BYTES[match.group(2)], text)


def parse_latency_limits(
    texts: Sequence[str], searched: Path
) -> tuple[float | None, dict[str | Path, float | None]]:
    """``20ms`` for the table that is ``searched``, ``board.lut=50ms`` for others, in ms.

    ``searched=20ms`` by its file's name means the same as ``20ms``. Raises `UsageError` for what
    cannot be read or is said twice.
    """
    own: float | None = None
    others: dict[str | Path, float | None] = {}
    for text in texts:
        path, _, latency = text.rpartition("=")
        latency_ms = parse_latency_ms(latency)
        if path and Path(path).resolve() != searched.resolve():
            if path in others:
                raise UsageError(f"--max-latency {text}: {path} has a limit already")
            others[path] = latency_ms
        elif own is not None:
            raise UsageError(
                f"--max-latency {text}: {searched} has a limit already; another table's is"
                f" --max-latency OTHER.lut={latency}"
            )
        else:
            own = latency_ms
    return own, others


def parse_percent(text: str) -> float:
    """``1%`` or ``1.5`` in percent; raises `UsageError` for anything else."""
    match = re.fullmatch(rf"\s*{_NUMBER}\s*%?\s*", text)
    if match is None:
        raise UsageError(f"'{text}' is not a percentage; write a positive number, as 1%")
    return _positive(float(match.group(1)), text)


def parse_losses(texts: Sequence[str]) -> dict[str, float | tuple[str, str]]:
    """``int8=0.5`` or ``int8=fp32.json,int8.json`` by precision; raises `UsageError`."""
    losses: dict[str, float | tuple[str, str]] = {}
    for text in texts:
        precision, _, loss = text.partition("=")
        files = loss.split(",")
        if precision in losses:
            raise UsageError(f"--accuracy-loss {text}: {precision} has a loss already")
        if not precision or len(files) > 2 or not all(files):
            raise _no_loss(text)
        if len(files) == 2:
            losses[precision] = (files[0], files[1])
            continue
        try:
            losses[precision] = float(loss)
        except ValueError as error:
            raise _no_loss(text) from error
    return losses


def _no_loss(text: str) -> UsageError:
    return UsageError(
        f"--accuracy-loss {text}: write PRECISION=POINTS, as int8=0.5, or two files of `lutra"
        " evaluate --json`, as int8=fp32.json,int8.json"
    )


def parse_budget(text: str | None) -> float:
    """Like `parse_seconds`; no text is no budget."""
    return math.inf if text is None else parse_seconds(text)


def _positive(value: float, text: str) -> float:
    if not math.isfinite(value) or value <= 0:
        raise UsageError(f"'{text}' must be more than zero and finite")
    return value


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """``x=1,3,224,224`` and ``batch=1`` as sizes by name; raises `UsageError` for anything else."""
    found: dict[str, tuple[int, ...]] = {}
    for text in texts:
        match = re.fullmatch(r"(.+)=\s*(\d{1,10}(?:\s*,\s*\d{1,10})*)\s*", text)
        if match is None:
            raise UsageError(f"--shape {text}: write NAME=SIZES, as x=1,3,224,224 or batch=1")
        name, sizes = match.group(1), tuple(map(int, match.group(2).split(",")))
        if found.setdefault(name, sizes) != sizes:
            raise UsageError(f"--shape {text}: it was {','.join(map(str, found[name]))} before")
    return found


def parse_resolutions(text: str, known: tuple[int, ...]) -> tuple[int, ...]:
    """``224``, ``128,160``, ``128:224:32`` (both ends in) or ``all``, sorted.

    Raises `UsageError` for what cannot be read; whether the space has them is the space's to say.
    """
    if text == "all":
        return known
    chosen: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,5})(?::(\d{1,5})(?::(\d{1,5}))?)?", part.strip())
        if match is None:
            raise UsageError(f"'{text}' is no list of resolutions; write 224, 128:224:32 or all")
        first = int(match.group(1))
        last, step = int(match.group(2) or first), int(match.group(3) or 4)
        if step == 0 or last < first:
            raise UsageError(f"'{part}' is an empty range of resolutions; write low:high:step")
        chosen.update(range(first, last + 1, step))
    return tuple(sorted(chosen))
