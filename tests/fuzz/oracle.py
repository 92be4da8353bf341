"""What must not come of any input: judged in one place, the same for every driver."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NamedTuple, NoReturn
from urllib.parse import unquote

from lutra.errors import LutraError
from lutra.tables.connection import TableWarning
from tests.fuzz.target import Target

MOST_SECONDS = 1.0  # of CPU
MOST_BYTES = 1 << 30
_REFUSED_BYTES = 2 << 30  # where the operating system refuses more: one input must not end the run
_PACKAGE = f"{os.sep}lutra{os.sep}"
_TESTS = f"{os.sep}tests{os.sep}"
_MOVES_TEXT = frozenset("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Violation(Exception):
    """A target saw something that must not be: a wrong number, a control character."""


class TooSlow(BaseException):
    """Past `LutraError` and `Exception`, so that nobody takes it for their own."""


@dataclass(frozen=True)
class Finding:
    """An input that did what none may; two of one ``signature`` are the same fault."""

    target: str
    what: str
    where: str
    data: bytes
    trace: str

    @property
    def signature(self) -> str:
        """The kind of fault and the line of lutra's where it came out."""
        return f"{self.target}: {self.what.partition(':')[0]} at {self.where}"

    def __str__(self) -> str:
        shown = self.data if len(self.data) <= 2000 else self.data[:2000] + b"..."
        return f"{self.signature}\n{self.what}\n{self.trace}\ninput: {shown!r}"


def require(condition: bool, what: str) -> None:
    """Raise `Violation` where a known oracle says that an answer is wrong."""
    if not condition:
        raise Violation(what)


def require_harmless(text: str) -> None:
    """Raise `Violation` for what a terminal obeys: nothing but line breaks moves its cursor."""
    for letter in text:
        if letter != "\n" and (unicodedata.category(letter) == "Cc" or letter in _MOVES_TEXT):
            place = text.index(letter)
            raise Violation(
                f"the terminal gets {letter!r}: {text[max(0, place - 40) : place + 20]!r}"
            )


class Said(NamedTuple):
    """What a command printed, and what it ended with."""

    out: str
    err: str
    code: int


def said(run: Callable[[], int | None]) -> Said:
    """What ``run`` prints, to streams as strict as a terminal's; checked to be harmless."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict", newline="")
    err = io.TextIOWrapper(_Kept(), "utf-8", errors="backslashreplace", newline="")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run() or 0
    texts = []
    for stream in (out, err):
        if not stream.closed:
            stream.flush()
        assert isinstance(stream.buffer, io.BytesIO)
        texts.append(stream.buffer.getvalue().decode())
    for text in texts:
        require_harmless(text)
    return Said(texts[0], texts[1], code)


class _Kept(io.BytesIO):
    """Bytes that can be read after they were closed: a command may close its stderr."""

    def close(self) -> None:
        """Keep them."""


def judge(
    target: Target, data: bytes, folder: Path, seconds: float = MOST_SECONDS
) -> Finding | None:
    """Run a target on one input in an empty folder; what is wrong with what it did, if anything.

    Only errors of lutra's own may come out of it, within ``seconds`` of CPU and a gigabyte; it may
    write in the folder and nowhere else, and start or reach no one.
    """
    before = _peak_bytes()
    found: tuple[str, BaseException | None] | None = None
    with _watched(folder) as deeds:
        try:
            with _bounded(seconds), warnings.catch_warnings():
                warnings.simplefilter("error")  # it would be printed
                warnings.simplefilter("ignore", TableWarning)  # which is meant to be
                target.run(data)
        except LutraError:
            pass
        except KeyboardInterrupt:
            raise
        except TooSlow as error:
            found = f"too slow: more than {seconds:g} s", error
        except BaseException as error:
            found = f"{type(error).__name__}: {error!s:.300}", error
    left = _emptied(folder, target.leaves)
    grown = _peak_bytes() - before
    if found is None and deeds.outside:
        found = f"{deeds.outside[0]}", None
    if found is None and left:
        found = f"left {left[0]}: in its folder", None
    if found is None and grown > MOST_BYTES:
        found = f"too large: {grown >> 20} MiB more", None
    if found is None:
        return None
    what, cause = found
    trace = "" if cause is None else "".join(traceback.format_exception(cause))
    return Finding(target.name, what, _where(cause), data, trace)


def _where(error: BaseException | None) -> str:
    """The innermost line of lutra's that an error came through."""
    found = "?"
    trace: TracebackType | None = None if error is None else error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if _PACKAGE in name and _TESTS not in name:
            found = f"lutra/{name.rpartition(_PACKAGE)[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


# time and memory


@contextlib.contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """Raise `TooSlow` after so much CPU, and refuse memory far beyond what is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _REFUSED_BYTES, hard))
    before = signal.signal(signal.SIGPROF, _too_slow)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _too_slow(number: int, frame: FrameType | None) -> NoReturn:
    raise TooSlow


# what is written, started and reached


@dataclass
class _Deeds:
    """What was done outside of the folder."""

    folder: Path
    outside: list[str] = field(default_factory=list)

    def writes(self, path: object, dir_fd: object = -1) -> None:
        """Take note of a path that is written, removed or changed."""
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a descriptor: it was opened before
        whole = Path(os.fsdecode(path))
        if isinstance(dir_fd, int) and dir_fd >= 0:
            whole = Path(f"/proc/self/fd/{dir_fd}").readlink() / whole
        whole = whole.resolve()
        if not whole.is_relative_to(self.folder) and whole != Path(os.devnull):
            self.outside.append(f"wrote outside: {whole}")


_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Audit events (Python's library reference): where their paths stand, and those paths' folders.
_PATHS: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.chmod": ((0, 2),),
    "os.link": ((1, 3),),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.rmdir": ((0, 1),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
}
_STARTING = frozenset(
    ("subprocess.Popen", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system")
)
_REACHING = frozenset(("socket.bind", "socket.connect", "socket.getaddrinfo", "socket.sendto"))
_deeds: _Deeds | None = None
_installed = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    deeds = _deeds
    if deeds is None:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & _WRITING:
            deeds.writes(path)
    elif event == "sqlite3.connect":
        name = str(arguments[0])
        if name != ":memory:" and "mode=ro" not in name:
            deeds.writes(unquote(name.removeprefix("file:").partition("?")[0]))
    elif event in _PATHS:
        for path_at, folder_at in _PATHS[event]:
            deeds.writes(arguments[path_at], -1 if folder_at is None else arguments[folder_at])
    elif event in _STARTING:
        deeds.outside.append(f"started: {arguments[:2]!r}")
    elif event in _REACHING and not _is_lock(event, arguments):
        deeds.outside.append(f"reached: {arguments!r}")


def _is_lock(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether it is an abstract Unix socket's name, which reaches nobody (`lutra.files.locks`)."""
    return event == "socket.bind" and arguments[1][:1] in ("\0", b"\0")


@contextlib.contextmanager
def _watched(folder: Path) -> Iterator[_Deeds]:
    """Work in the folder, and take note of what is done elsewhere."""
    global _deeds, _installed
    if not _installed:
        sys.addaudithook(_audit)
        _installed = True
    at, temporary, bytecode = Path.cwd(), tempfile.tempdir, sys.dont_write_bytecode
    os.chdir(folder)
    tempfile.tempdir, sys.dont_write_bytecode = str(folder), True
    _deeds = deeds = _Deeds(folder.resolve())
    try:
        yield deeds
    finally:
        _deeds = None
        os.chdir(at)
        tempfile.tempdir, sys.dont_write_bytecode = temporary, bytecode


def _emptied(folder: Path, allowed: frozenset[str]) -> list[str]:
    """Empty the folder; the names of what should not have been left there."""
    left = []
    with os.scandir(folder) as entries:
        for entry in list(entries):
            if entry.name not in allowed:
                left.append(entry.name)
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                Path(entry.path).unlink()
    return left
