"""Folders for files that nobody keeps; what a killed process left is cleared by the next run.

Each is locked by the process that uses it, and the kernel unlocks what is dead. The temporary
folder is shared with other users: only folders of this user's are looked into, and none is
followed through a link.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "lutra-scratch-"  # earlier versions' folders, which have no locks, are called otherwise
_NAME = re.compile(re.escape(_PREFIX) + "[a-z0-9_]{8}")  # as mkdtemp makes them


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder of this process's own in the temporary folder; it is removed at the end.

    Raises `OSError` where none can be made.
    """
    _clear_dead()
    with contextlib.ExitStack() as held:
        folder = _made(held)
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def _made(held: contextlib.ExitStack) -> Path:
    """A new folder, locked for as long as ``held`` is open."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with contextlib.ExitStack() as opened:
            with contextlib.suppress(FileNotFoundError):
                descriptor = _opened(folder, opened)
                with contextlib.suppress(OSError):  # no locks there: nobody will clear it either
                    _lock(descriptor, wait=True)
            if folder.exists():  # else another run took it, not locked yet, for a dead one's
                held.push(opened.pop_all())
                return folder


def _clear_dead() -> None:
    """Remove this user's folders that no process has locked."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.ExitStack() as opened, contextlib.suppress(OSError):
            descriptor = _opened(folder, opened)
            if _NAME.fullmatch(folder.name) and os.fstat(descriptor).st_uid == os.geteuid():
                _lock(descriptor, wait=False)
                shutil.rmtree(folder, ignore_errors=True)


def _lock(descriptor: int, *, wait: bool) -> None:
    import fcntl  # not on Windows, where tables can be read all the same

    fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def _opened(folder: Path, held: contextlib.ExitStack) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    held.callback(os.close, descriptor)
    return descriptor
