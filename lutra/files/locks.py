"""What one process holds alone, by a name: locks that the kernel gives up when the process ends.

On Linux a lock is a socket with an abstract name (unix(7)): on no file system, seen by every user
of the machine, gone with its process, and it says who holds it. It does not reach into containers
with a network namespace of their own. Elsewhere it is a locked file in the temporary folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import struct
import sys
import tempfile
from pathlib import Path

from lutra.errors import LutraError
from lutra.text import one_line

Lock = contextlib.ExitStack
"""What is held; closing it gives it up."""

# docs/decisions.md: Claims are sockets
_LONGEST_NAME = 80  # sockets' names have 108 bytes
_PEER_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


def take(resource: str) -> Lock | str:
    """The lock of a name (``core 3``), or who holds it, in words."""
    name = os.fsencode(f"lutra/{resource}")  # names of files need not be UTF-8
    if len(name) > _LONGEST_NAME:
        name = b"lutra/" + hashlib.sha256(name).hexdigest().encode()
    return taken_by_socket(name) if sys.platform == "linux" else taken_by_file(name)


def domain() -> str:
    """Where this process's locks are seen, as a word: runs with the same one see each other's."""
    if sys.platform == "linux":
        place = [_text("/etc/machine-id"), str(Path("/proc/self/ns/net").readlink())]
    else:
        place = [tempfile.gettempdir(), str(os.getuid())]
    return hashlib.sha256("\n".join([socket.gethostname(), *place]).encode()).hexdigest()[:16]


def _text(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="ascii", errors="replace")
    return ""


def taken_by_socket(name: bytes) -> Lock | str:
    """`take` where there are abstract sockets."""
    with contextlib.ExitStack() as opened:
        held = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            held.bind(b"\0" + name)
            held.listen(8)
        except OSError:
            return _holder_of_socket(name)
        return opened.pop_all()


def _holder_of_socket(name: bytes) -> str:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(1.0)
            asking.connect(b"\0" + name)
            size = _PEER_CREDENTIALS.size
            credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    except OSError:  # it ended just now, or many ask
        return "another run"
    return _process(_PEER_CREDENTIALS.unpack(credentials)[0])


def taken_by_file(name: bytes) -> Lock | str:
    """`take` elsewhere."""
    import fcntl  # not on Windows, where tables can be read all the same

    folder = Path(tempfile.gettempdir()) / f"lutra-claims-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise LutraError(f"{folder} is another user's: remove it, or set TMPDIR")
    with contextlib.ExitStack() as opened:
        path = folder / hashlib.sha256(name).hexdigest()
        held = opened.enter_context(path.open("a+", encoding="ascii"))
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.seek(0)
            text = held.read(20)
            return _process(int(text) if text.isdigit() else 0)
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        return opened.pop_all()


def _process(pid: int) -> str:
    """A process in words; 0 is one that cannot be seen from here."""
    if pid == os.getpid():
        return "this very run"
    if pid == 0:
        return "another run"
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return f"another run (pid {pid})"
    command = one_line(b" ".join(words).decode("utf-8", "replace"))[:80]
    return f"`{command}` (pid {pid})"
