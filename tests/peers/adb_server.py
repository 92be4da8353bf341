"""An adb server of the tests' own: the user's, with the user's phones, is left in peace."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import adbutils

READY_SECONDS = 30.0


class AdbServer:
    """An adb server with its keys and its log in ``folder``; clients need its ``environment``.

    It is a child of this process: ``adb start-server`` would sleep for three seconds and leave a
    daemon.
    """

    def __init__(self, folder: Path) -> None:
        self.environment = adb_environment(folder)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start the server and wait for it; does nothing when one answers."""
        if self._answers():
            return
        self.close()
        log = Path(self.environment["ANDROID_ADB_LOG_PATH"])
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [adbutils.adb_path(), "nodaemon", "server"],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def run(self, *arguments: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run the adb program against this server."""
        return subprocess.run(
            [adbutils.adb_path(), *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def connect(self, serial: str, tries: int = 3) -> str:
        """Connect to a device and wait until it may be used; what adb said of the connection.

        Now and then a connection to an adbd that has just begun never comes past "offline".
        """
        said = self.run("connect", serial).stdout
        try:
            self.run("-s", serial, "wait-for-device")  # its handshake may take longer
        except subprocess.TimeoutExpired:
            if tries == 1:
                raise
            self.run("disconnect", serial)
            return self.connect(serial, tries - 1)
        return said

    def close(self) -> None:
        """End the server."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        # A client under test that found no server has started a daemon; there is none otherwise.
        if self._answers():
            self.run("kill-server")

    def _wait(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = Path(self.environment["ANDROID_ADB_LOG_PATH"]).read_text(errors="replace")
                raise RuntimeError(f"the adb server does not start: {log}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        port = int(self.environment["ANDROID_ADB_SERVER_PORT"])
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0


def adb_environment(folder: Path) -> dict[str, str]:
    """Variables for an adb server of one's own, with its keys and its log in ``folder``.

    It looks for no devices by itself: the user's phones and emulators are none of its business,
    and looking delays its start by three seconds.
    """
    return {
        "ANDROID_ADB_SERVER_PORT": str(_free_port()),
        "ANDROID_ADB_LOG_PATH": str(folder / "adb.log"),
        "ADB_MDNS_AUTO_CONNECT": "0",
        "ADB_USB": "0",
        "ADB_EMU": "0",
        "HOME": str(folder),
    }


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert isinstance(port, int)
        return port
