"""Reading files of others within bounds, and writing ours so that they are old or new, never half.

Errors of the file system become the caller's own kind of error, with the file's name.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lutra.errors import LutraError, ResultError
from lutra.files.kinds import RESULT, FileKind, is_there, require_kind, what_is

MAX_JSON_BYTES = 16 << 20
_DEEPEST_JSON = 50  # ours has six levels
_NEW_FILE = 0o666  # less the user's umask, as the system has it
_ANYBODY_WRITES = 0o222
_OPEN_FILES = "/proc/self/fd"


@contextmanager
def replacing(
    path: Path,
    error: type[LutraError],
    *,
    kind: FileKind | None = None,
    permissions: int | None = None,
    new: bool = False,
) -> Iterator[IO[bytes]]:
    """A temporary file beside ``path`` to write to; it takes that name when the block ends well.

    ``name`` of the file is its own path until then. An exception in the block leaves ``path`` as it
    was and nothing beside it; so does a kill, where the system has files without a name. Through a
    link the file that it points to is replaced. ``permissions``, of which the umask takes some, are
    by default those of the file before. With ``new`` there must have been none.

    Raises `UsageError` where a file that is no ``kind`` would be lost, and ``error`` for one that
    is read-only and for what the file system refuses.
    """
    if kind is not None:
        require_kind(path, kind)
    target = Path(os.path.realpath(path))
    mode = _NEW_FILE if permissions is None else permissions
    with _refusals(path, error), _temporary(target.parent, mode) as file:
        before = None if new else _writable_mode(target)
        if before is not None and permissions is None:
            os.fchmod(file.fileno(), before)
        yield file
        file.flush()
        _publish(file, target, new=new)


def check_output(path: Path, kind: FileKind, error: type[LutraError] = ResultError) -> None:
    """Raise now what `replacing` would raise: for before something that takes long."""
    require_kind(path, kind)
    target = Path(os.path.realpath(path))
    with _refusals(path, error), _temporary(target.parent, _NEW_FILE):
        _writable_mode(target)


@contextmanager
def _refusals(path: Path, error: type[LutraError]) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise error(f"cannot write {path}: {problem.strerror or problem}") from problem


def _writable_mode(target: Path) -> int | None:
    """The permissions of the file, None where there is none; `OSError` for one that is read-only.

    Replacing it would need the folder's permission alone, and the system never asks root: a file
    that nobody may write is one that somebody wants to keep.
    """
    try:
        mode = stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        return None
    if not (mode & _ANYBODY_WRITES and os.access(target, os.W_OK)):
        raise PermissionError(
            errno.EACCES, "it is read-only; make it writable, or name another file"
        )
    return mode


@contextmanager
def _temporary(folder: Path, mode: int) -> Iterator[IO[bytes]]:
    """A file in the folder, without a name where the system has such; else it is removed.

    Its ``name`` is then where /proc shows it.
    """
    try:
        descriptor = os.open(folder, getattr(os, "O_TMPFILE", 0) | os.O_RDWR, mode)
    except OSError:
        name = folder / _temporary_name()
        with open(str(name), "x+b", opener=lambda path, flags: os.open(path, flags, mode)) as named:
            try:
                yield named
            finally:
                name.unlink(missing_ok=True)
        return
    with open(f"{_OPEN_FILES}/{descriptor}", "r+b", opener=lambda *_: descriptor) as file:
        yield file


def _temporary_name() -> str:
    return f".lutra-{secrets.token_hex(8)}"  # short: the file's own may be as long as names can be


def _publish(file: IO[bytes], target: Path, *, new: bool) -> None:
    """Have the target's name mean the file; raises `OSError` where it must be new and is not."""
    try:
        _link(file, target)
        return
    except OSError as problem:  # it exists, or the file system has no links
        if new and (isinstance(problem, FileExistsError) or is_there(target)):
            raise
    temporary = Path(file.name)
    if file.name.startswith(_OPEN_FILES):
        temporary = target.with_name(_temporary_name())
        _link(file, temporary)
    try:
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _link(file: IO[bytes], name: Path) -> None:
    # Only where a folder is given, even one without use, is /proc's link followed to the file.
    os.link(file.name, name, src_dir_fd=file.fileno())


def write_atomically(
    path: Path,
    data: bytes,
    error: type[LutraError] = ResultError,
    *,
    kind: FileKind | None = None,
    new: bool = False,
) -> None:
    """Write a whole file, which `replacing` puts in place; raises as it does."""
    with replacing(path, error, kind=kind, new=new) as file:
        file.write(data)


def read_bounded(path: Path, max_bytes: int, too_large: str, error: type[LutraError]) -> bytes:
    """A file's content; raises ``error``, with the reason ``too_large`` beyond ``max_bytes``.

    And for a named pipe, which nobody may ever write to; those of a shell's ``<(...)`` are read.
    """
    try:
        if stat.S_ISFIFO(path.stat().st_mode) and not _is_of_process(path):
            raise error(f"{path} is a named pipe: name a file")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}") from problem
    if len(data) > max_bytes:
        raise error(f"{path} {too_large}")
    return data


def _is_of_process(path: Path) -> bool:
    """Whether it is one of this process's own open files, by their names."""
    return path.is_absolute() and path.parts[1] in ("dev", "proc")


def read_json(path: Path, error: type[LutraError] = ResultError, needed: str = "") -> Any:
    """The JSON document in a file of bounded size; raises ``error``.

    Which says what the file is, where that is known, and what is ``needed`` instead.
    """
    data = read_bounded(path, MAX_JSON_BYTES, "is too large for a JSON file of lutra", error)
    try:
        return parse_json(data)
    except ValueError as problem:
        known = None if RESULT.is_one(data) else what_is(data)  # else it is a damaged one
        found = known or f"not valid JSON: {problem}"
        instead = f"; {needed} is needed" if needed else ""
        raise error(f"{path} is {found}{instead}") from problem


def parse_json(text: str | bytes) -> Any:
    """The document in JSON of others; raises ValueError for none, or one that is nested deeply.

    What looks into a document, prints or stores it goes a call deeper with each of its levels.
    """
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [document]
    for _ in range(_DEEPEST_JSON):
        level = [inner for item in level for inner in _inside(item)]
        if not level:
            return document
    raise ValueError("it is nested too deeply")


def _inside(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()
