"""Subnets of a supernet with their measured top-1, one a line: what accuracy models are fitted on.

JSON lines. The first says what was measured: ``{"format": "lutra-accuracy-samples", "version": 1,
"space": ..., "checkpoint": SHA-256, "data": ..., "labels": digest, "images": N,
"calibration_images": M}``, and ``"criterion"`` where channels were removed. Each further one is one
of OFA's dictionaries with ``top1_percent``. A line is written when it is measured, the first line
with the first of them; the last one of a killed run may lack its end and is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.errors import AccuracyError, ResultError, UsageError
from lutra.files import parse_json, read_bounded
from lutra.files.kinds import what_is
from lutra.files.locks import take
from lutra.spaces import Rows, SearchSpace, get_space

FORMAT = "lutra-accuracy-samples"
VERSION = 1
START = json.dumps({"format": FORMAT})[:-1].encode()
"""What such a file begins with."""

_MAX_BYTES = 64 << 20  # a subnet has 300 bytes
_MAX_LINE = 1 << 16
# What must not differ; a folder of images may have been moved: a digest tells what it holds.
_WHAT = {
    "space": "space",
    "checkpoint": "checkpoint",
    "images": "number of validation images",
    "labels": "set of validation images",
    "calibration_images": "number of calibration images",
    "criterion": "criterion of pruning",
}
_TOO_LARGE = f"is larger than {_MAX_BYTES >> 20} MiB: too large for measured subnets"


@dataclass(frozen=True)
class SampleSource:
    """What was measured: a space's supernet by its checkpoint's digest, on which images.

    ``data`` is the data set's name, ``labels`` the digest of the validation images and their
    labels, of which there were ``images``; statistics of batch normalisations are of
    ``calibration_images`` training images. ``criterion`` says by which rule channels were removed,
    where the space is that of a network's narrower forms.
    """

    space: str
    checkpoint: str
    data: str
    labels: str
    images: int
    calibration_images: int
    criterion: str | None = None


class Samples(NamedTuple):
    """Distinct canonical architectures (N, genes) and their top-1 (N,) in percent."""

    source: SampleSource
    rows: Rows
    top1: npt.NDArray[np.float64]


def read_samples(path: str | Path) -> Samples:
    """The measured subnets in a file; what was measured twice is averaged.

    Raises `AccuracyError` that names the line.
    """
    data = _content(Path(path))
    found = what_is(data)
    if found is not None:
        raise AccuracyError(f"{path} is {found}, not what `lutra accuracy sample` measured")
    return parse_samples(data, str(path))


def parse_samples(data: bytes, where: str) -> Samples:
    """Like `read_samples`, of a file's bytes."""
    first, *lines = data.split(b"\n")[:-1] or [b""]  # behind the last line's end is nothing whole
    source, space = _source(first, where)
    measured: dict[bytes, list[float]] = {}
    for number, line in enumerate(lines, start=2):
        row, top1 = _sample(line, space, f"{where}, line {number}")
        measured.setdefault(row.tobytes(), []).append(top1)
    rows = [np.frombuffer(key, dtype=np.int16) for key in measured]
    return Samples(
        source,
        np.array(rows, dtype=np.int16).reshape(len(rows), len(space.genes)),
        np.array([np.mean(values) for values in measured.values()], dtype=np.float64),
    )


class SampleWriter:
    """A file that measured subnets are added to; ``done`` are those that it holds, as bytes."""

    def __init__(
        self, file: IO[bytes], path: Path, space: SearchSpace, done: set[bytes], head: bytes
    ) -> None:
        """``head`` is what is to come before the first of them."""
        self._head = head
        self._file = file
        self._path = path
        self._space = space
        self.done = done

    def add(self, row: npt.NDArray[np.int16], top1_percent: float) -> None:
        """Write a canonical row's accuracy so that it survives a kill; raises `AccuracyError`."""
        document = self._space.decode(row).to_json()
        document.pop("space")
        line = _line({**document, "top1_percent": round(top1_percent, 4)})
        _append(self._file, self._path, self._head + line)
        self._head = b""
        self.done.add(row.tobytes())


@contextmanager
def sample_writer(path: Path, source: SampleSource) -> Iterator[SampleWriter]:
    """Open a file to add to; one that is not there, or empty, is begun with what is added.

    Raises `AccuracyError` where it cannot be written, another run writes it, or it holds what was
    measured otherwise, and `UsageError` where it is something else.
    """
    lock = take(f"samples {os.path.realpath(path)}")
    if isinstance(lock, str):
        raise AccuracyError(f"{path} is being written by {lock}")
    with lock:
        data = _content(path) if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if data and not _is_ours(data):
            raise UsageError(
                f"{path} holds no measured subnets: they are not written over it; name another"
                " file, or remove this one"
            )
        space = get_space(source.space)
        done: set[bytes] = set()
        if whole:
            known = parse_samples(whole, str(path))
            _require_same(path, known.source, source)
            done = {row.tobytes() for row in known.rows}
        said = {name: value for name, value in asdict(source).items() if value is not None}
        head = b"" if whole else _line({"format": FORMAT, "version": VERSION, **said})
        with _opened(path, len(whole)) as file:
            yield SampleWriter(file, path, space, done, head)


def _content(path: Path) -> bytes:
    return read_bounded(path, _MAX_BYTES, _TOO_LARGE, AccuracyError)


def _is_ours(data: bytes) -> bool:
    """Whether it begins as our files do; perhaps not even the first line is whole."""
    return data[: len(START)] == START[: len(data)]


@contextmanager
def _opened(path: Path, size: int) -> Iterator[IO[bytes]]:
    """The file, cut to its first ``size`` bytes; one that was not there stays only with content."""
    is_new = not path.exists()
    try:
        # without a buffer, which closing would try to write once more where a disk is full
        file = path.open("w+b" if is_new else "r+b", buffering=0)
    except OSError as problem:
        raise _cannot_write(path, problem) from problem
    with file:
        try:
            file.truncate(size)
            file.seek(size)
        except OSError as problem:
            raise _cannot_write(path, problem) from problem
        try:
            yield file
        finally:
            if is_new and not os.fstat(file.fileno()).st_size:
                Path(os.path.realpath(path)).unlink(missing_ok=True)


def _line(document: dict[str, object]) -> bytes:
    return json.dumps(document).encode() + b"\n"


def _append(file: IO[bytes], path: Path, content: bytes) -> None:
    """Write all of it, or nothing."""
    size, rest = file.tell(), content
    try:
        while rest:  # a disk that fills takes a part, and only then refuses
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    except OSError as problem:
        with suppress(OSError):
            file.truncate(size)
            file.seek(size)
        raise _cannot_write(path, problem) from problem


def _cannot_write(path: Path, problem: OSError) -> AccuracyError:
    return AccuracyError(f"cannot write {path}: {problem.strerror}")


def _require_same(path: Path, known: SampleSource, source: SampleSource) -> None:
    for name, words in _WHAT.items():
        was, now = getattr(known, name), getattr(source, name)
        if was != now:
            raise AccuracyError(
                f"{path} holds what was measured with another {words} ({was!s:.40} before, now"
                f" {now!s:.40}): name another file"
            )


def _source(line: bytes, where: str) -> tuple[SampleSource, SearchSpace]:
    document = _object(line, f"{where}, line 1")
    if document.get("format") != FORMAT:
        raise AccuracyError(
            f"{where} holds no measured subnets; `lutra accuracy sample` makes such files"
        )
    if document.get("version") != VERSION:
        raise AccuracyError(f"{where} was written by another version of lutra; measure it again")
    texts = {name: document.get(name) for name in ("space", "checkpoint", "data", "labels")}
    counts = {name: document.get(name) for name in ("images", "calibration_images")}
    for name, text in texts.items():
        if not isinstance(text, str) or len(text) > _MAX_LINE:
            raise AccuracyError(f"{where}, line 1: '{name}' is missing or no text")
    for name, count in counts.items():
        if type(count) is not int or not 0 <= count < 1 << 53:
            raise AccuracyError(f"{where}, line 1: '{name}' is missing or no count")
    criterion = document.get("criterion")
    if not isinstance(criterion, str | None):
        raise AccuracyError(f"{where}, line 1: 'criterion' is no text")
    try:
        space = get_space(str(texts["space"]))
    except UsageError as error:
        raise AccuracyError(f"{where}, line 1: {error}") from error
    return SampleSource(**texts, **counts, criterion=criterion), space  # type: ignore[arg-type]


def _sample(line: bytes, space: SearchSpace, where: str) -> tuple[npt.NDArray[np.int16], float]:
    document = _object(line, where)
    top1 = document.get("top1_percent")
    if type(top1) not in (int, float) or not 0.0 <= top1 <= 100.0:  # type: ignore[operator]
        raise AccuracyError(f"{where}: 'top1_percent' is missing or not from 0 to 100")
    try:
        return space.encode(space.parse(document)), float(top1)  # type: ignore[arg-type]
    except (ResultError, UsageError) as error:
        raise AccuracyError(f"{where}: {error}") from error


def _object(line: bytes, where: str) -> dict[str, object]:
    try:
        if len(line) > _MAX_LINE:
            raise ValueError("it is too long")
        document = parse_json(line)
    except ValueError as error:
        raise AccuracyError(f"{where} is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise AccuracyError(f"{where} is no JSON object")
    return document
