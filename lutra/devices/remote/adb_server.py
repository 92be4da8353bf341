"""The adb server of this machine, which whoever asks for phones starts where there is none."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

_ANSWER_SECONDS = 5.0
_KILL = b"0009host:kill"  # the length, and adb's own word for it (SERVICES.TXT of its sources)


@contextlib.contextmanager
def no_server_left() -> Iterator[None]:
    """End the server that what is done in the block starts; one that ran before stays."""
    ran_before = _tell(b"")
    try:
        yield
    finally:
        if not ran_before:
            _tell(_KILL)


def _tell(request: bytes) -> bool:
    """Whether a server took the request; nothing is started."""
    host = os.environ.get("ANDROID_ADB_SERVER_HOST", "127.0.0.1")
    port = os.environ.get("ANDROID_ADB_SERVER_PORT", "5037")
    try:
        with socket.create_connection((host, int(port)), _ANSWER_SECONDS) as server:
            server.sendall(request)
            # What it hangs up on has ended.
            return not request or b"OKAY" in b"".join(iter(lambda: server.recv(64), b""))
    except (OSError, ValueError):  # there is none; or the port is no number, as others say
        return False
