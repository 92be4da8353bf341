"""Peers for tests: one of each for the whole session, as new at each test's end.

Only bridges, which start at once, are each test's own. Peers are skipped, with the reason, where
they cannot run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers import bridge
from tests.peers.adb_server import AdbServer
from tests.peers.board import Board
from tests.peers.bridge import Bridge
from tests.peers.phone import Phone
from tests.peers.roots import Architecture, available


@pytest.fixture(scope="session")
def shared_adb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdbServer]:
    """The session's adb server; tests ask for ``adb_server``."""
    _require("amd64")
    with AdbServer(tmp_path_factory.mktemp("adb")) as server:
        yield server


@pytest.fixture
def adb_server(
    shared_adb_server: AdbServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[AdbServer]:
    """An adb server that adb and adbutils talk to; it knows no device, before and after."""
    for name, value in shared_adb_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("ANDROID_SERIAL", raising=False)
    yield shared_adb_server
    shared_adb_server.start()
    shared_adb_server.run("disconnect")


@pytest.fixture(scope="session")
def shared_phone() -> Iterator[Phone]:
    """The session's amd64 phone; tests ask for ``phone``."""
    _require("amd64")
    with Phone("amd64") as phone:
        yield phone


@pytest.fixture
def phone(shared_phone: Phone, adb_server: AdbServer) -> Iterator[Phone]:
    """A phone that the adb server can reach but is not connected to."""
    yield shared_phone
    shared_phone.heal()


@pytest.fixture(scope="session")
def bridge_program() -> None:
    """The bridge can run; made while npm still sees the user's HOME, not a test's."""
    missing = bridge.available()
    if missing is not None:
        pytest.skip(missing)


@pytest.fixture
def unauthorized_phone(bridge_program: None, phone: Phone, adb_server: AdbServer) -> Iterator[str]:
    """The serial of a phone that adb knows and whose owner does not answer its question."""
    with Bridge(phone, adb_server, authorized=False) as bridged:
        adb_server.run("connect", bridged.serial)
        yield bridged.serial


@pytest.fixture
def old_phone(bridge_program: None, phone: Phone, adb_server: AdbServer) -> Iterator[str]:
    """The serial of a ``phone`` that adb may use and that offers none of adb's newer features."""
    with Bridge(phone, adb_server, authorized=True) as bridged:
        adb_server.connect(bridged.serial)
        yield bridged.serial


@pytest.fixture(scope="session")
def shared_emulated_phone() -> Iterator[Phone]:
    """The session's arm64 phone; tests ask for ``emulated_phone``."""
    _require("arm64")
    with Phone("arm64") as phone:
        yield phone


@pytest.fixture
def emulated_phone(shared_emulated_phone: Phone, adb_server: AdbServer) -> Iterator[Phone]:
    """An arm64 phone that the adb server can reach; its test is marked ``emulated``."""
    yield shared_emulated_phone
    shared_emulated_phone.heal()


@pytest.fixture(scope="session")
def shared_board() -> Iterator[Board]:
    """The session's board on the host's system; tests ask for ``board``."""
    _require_sshd()
    with Board("host") as board:
        yield board


@pytest.fixture
def board(shared_board: Board) -> Iterator[Board]:
    """A board with this python; HOME is the client's that knows it."""
    with as_client_of(shared_board):
        yield shared_board


@pytest.fixture(scope="session")
def shared_pythonless_board() -> Iterator[Board]:
    """The session's board without python; tests ask for ``pythonless_board``."""
    _require_sshd()
    with Board("host", without_python=True) as board:
        yield board


@pytest.fixture
def pythonless_board(shared_pythonless_board: Board) -> Iterator[Board]:
    """A board that has a shell and few programs; HOME is the client's that knows it."""
    with as_client_of(shared_pythonless_board):
        yield shared_pythonless_board


@pytest.fixture(scope="session")
def shared_emulated_board() -> Iterator[Board]:
    """The session's arm64 board; tests ask for ``emulated_board``."""
    _require("arm64")
    with Board("arm64") as board:
        yield board


@pytest.fixture
def emulated_board(shared_emulated_board: Board) -> Iterator[Board]:
    """A Raspberry Pi with tflite-runtime; its test is marked ``emulated``."""
    with as_client_of(shared_emulated_board):
        yield shared_emulated_board


def _require(architecture: Architecture) -> None:
    missing = available(architecture)
    if missing is not None:
        pytest.skip(missing)


def _require_sshd() -> None:
    _require("amd64")
    if not Path("/usr/sbin/sshd").exists():
        pytest.skip("boards on the host's system need sshd (Debian: openssh-server)")


@contextlib.contextmanager
def as_client_of(board: Board) -> Iterator[None]:
    """HOME is the client's that knows the board, which is healed at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(board.home))
        patch.delenv("SSH_AUTH_SOCK", raising=False)
        yield
    board.heal()
