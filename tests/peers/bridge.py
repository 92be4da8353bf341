"""A phone behind adbkit's bridge: one that asks for a key, and has adb's oldest features only."""

from __future__ import annotations

import shutil
import subprocess
from types import TracebackType
from typing import Self

from tests.peers import roots
from tests.peers.adb_server import AdbServer
from tests.peers.phone import Phone


def available() -> str | None:
    """What is missing here to run a bridge, in a line; None when nothing is."""
    peers_missing = roots.available()
    if peers_missing is not None:
        return peers_missing
    missing = [tool for tool in ("node", "npm") if shutil.which(tool) is None]
    if missing:
        return f"the bridge needs {', '.join(missing)}"
    try:
        roots.adbkit()
    except RuntimeError as error:
        _, _, said = str(error).partition("\n")  # behind the command
        return f"the bridge needs {roots.ADBKIT}: {' '.join(said.split()):.200}"
    return None


class Bridge:
    """A node process in front of ``phone``, which it reaches through ``server``.

    ``authorized``: its owner has allowed USB debugging; otherwise the question stays unanswered,
    and every key with it.
    """

    def __init__(self, phone: Phone, server: AdbServer, authorized: bool) -> None:
        self._phone = phone
        self._server = server
        self._answer = "authorized" if authorized else "unauthorized"
        self._process: subprocess.Popen[str] | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self._server.run("connect", self._phone.serial)
        port = self._server.environment["ANDROID_ADB_SERVER_PORT"]
        program = ["node", str(roots.HERE / "bridge.js"), str(roots.adbkit())]
        self._process = subprocess.Popen(
            [*program, self._phone.serial, port, self._answer],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        with self._process.stdout as output:
            line = output.readline()
        if not line.strip():
            self.close()
            raise RuntimeError("the bridge does not start")
        self._port = int(line)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def serial(self) -> str:
        """What ``adb connect`` and ``adb -s`` take."""
        return f"127.0.0.1:{self._port}"

    def close(self) -> None:
        """End it; adb sees the phone go offline."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.kill()
            self._process.wait()
            self._process = None
