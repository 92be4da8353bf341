"""How inputs come about: from a grammar, by hypothesis, or from coverage, by atheris."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.oracle import MOST_SECONDS, Finding, judge
from tests.fuzz.target import Target

_BATCH = 400  # inputs of one seed
_SAMPLES = 100  # of the grammar, for the coverage-guided driver to begin with
_INSTRUMENTED = 4.0  # how many times as long an instrumented target may take
_SHOWN_BYTES = 1 << 22


def grammar_inputs(target: Target, number: int, count: int, take: Callable[[bytes], None]) -> None:
    """Hand out ``count`` inputs of the grammar (fewer if it has no more); the same each time."""

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(target.grammar())
    def hand_out(data: bytes) -> None:
        take(data)

    hand_out()


class Progress:
    """How far a driver is, in a file that its parent reads: how many inputs, and which one is in
    hand. So the input that ends the process, or never comes back, is known."""

    _head = struct.Struct("<QQ")

    def __init__(self, path: Path) -> None:
        if not path.exists():
            with path.open("wb") as file:
                file.truncate(self._head.size + _SHOWN_BYTES)
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    def begin(self, count: int, data: bytes) -> None:
        """Note the input that comes after ``count`` others."""
        shown = data[:_SHOWN_BYTES]
        self._map[self._head.size : self._head.size + len(shown)] = shown
        self._map[: self._head.size] = self._head.pack(count, len(shown))

    def read(self) -> tuple[int, bytes]:
        """How many inputs came before, and the one in hand."""
        count, length = self._head.unpack(self._map[: self._head.size])
        return count, bytes(self._map[self._head.size : self._head.size + length])


class Work:
    """A target's work in one process: judges inputs and saves those that fail."""

    def __init__(self, target: Target, folder: Path, seconds: float, slower: float = 1.0) -> None:
        """``folder`` is the target's, where what fails is kept; ``seconds`` is how long to work."""
        self._target = target
        self._failing = folder / "failing"
        self._failing.mkdir(parents=True, exist_ok=True)
        self._limit_seconds = MOST_SECONDS * slower
        self._progress = Progress(folder / "progress")
        self._until = time.monotonic() + seconds
        self.count = 0
        self._scratch = tempfile.mkdtemp(prefix="lutra-fuzz-", dir=folder)

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._until

    def take(self, data: bytes) -> None:
        """Judge one input."""
        self._progress.begin(self.count, data)
        found = judge(self._target, data, Path(self._scratch), self._limit_seconds)
        self.count += 1
        if found is not None:
            save(self._failing, found)

    def again(self) -> None:
        """Judge what failed before, and forget what does not fail any more."""
        for path in sorted(self._failing.glob("*.bin")):
            data = path.read_bytes()
            found = judge(self._target, data, Path(self._scratch), self._limit_seconds)
            if found is None:
                path.unlink()
                path.with_suffix(".txt").unlink(missing_ok=True)

    def close(self) -> None:
        """Note that no input is in hand."""
        self._progress.begin(self.count, b"")
        Path(self._scratch).rmdir()


def save(folder: Path, found: Finding) -> None:
    """Keep a failing input by its signature, the smallest one, with what it did."""
    name = hashlib.sha256(found.signature.encode()).hexdigest()[:12]
    path = folder / f"{name}.bin"
    if not path.exists() or path.stat().st_size > len(found.data):
        path.write_bytes(found.data)
        path.with_suffix(".txt").write_text(f"{found}\n", encoding="utf-8", errors="replace")


def warm(target: Target, folder: Path) -> None:
    """Have everything imported and built that a target needs, for which no input is to blame."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for data in target.seeds():
            judge(target, data, Path(scratch), seconds=60.0)


def by_grammar(target: Target, folder: Path, seconds: float, first_seed: int) -> None:
    """Judge inputs of the grammar for so long."""
    warm(target, folder)
    work = Work(target, folder, seconds)
    work.again()
    number = first_seed
    with contextlib.suppress(_Over):
        while not work.over:
            grammar_inputs(target, number, _BATCH, _until_over(work))
            number += 1
    work.close()


class _Over(BaseException):
    """The time is up."""


def _until_over(work: Work) -> Callable[[bytes], None]:
    def take(data: bytes) -> None:
        work.take(data)
        if work.over:
            raise _Over

    return take


def by_coverage(name: str, folder: Path, seconds: float, first_seed: int) -> None:
    """Judge inputs that atheris makes, from a corpus that is kept, for so long."""
    import atheris

    with _instrumented():
        from tests.fuzz.registry import TARGETS

        target = TARGETS[name]
        warm(target, folder)
    corpus, seeds = folder / "corpus", folder / "seeds"
    for directory in (corpus, seeds):
        directory.mkdir(exist_ok=True)
    samples: list[bytes] = [*target.seeds(), *target.examples]
    grammar_inputs(target, first_seed, _SAMPLES, samples.append)
    for data in samples:
        (seeds / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    work = Work(target, folder, seconds, _INSTRUMENTED)
    options = {
        "max_total_time": max(1, round(seconds)),
        "seed": first_seed + 1,
        "max_len": 1 << 16,
        "timeout": 60,
        "rss_limit_mb": 6000,
        "detect_leaks": 0,
        "print_final_stats": 0,
        "artifact_prefix": f"{folder}/",
    }
    flags = [f"-{option}={value}" for option, value in options.items()]
    atheris.Setup([sys.argv[0], *flags, str(corpus), str(seeds)], work.take)
    atheris.Fuzz()


@contextlib.contextmanager
def _instrumented() -> Iterator[None]:
    """What is imported of lutra within tells atheris which of its branches are taken."""
    import atheris

    with atheris.instrument_imports(include=["lutra"]):
        yield
