"""Folders of ours beside those of others: real keepers of this machine, several in one folder."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from lutra.devices.remote.channel import Channel, LinkLost
from lutra.devices.remote.folder import RemoteFolder
from lutra.devices.remote.keeper import clear_command
from lutra.devices.remote.shell import Shell
from lutra.devices.sessions.local_process import LocalProcess
from lutra.errors import TransientDeviceError
from lutra.files import locks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="keepers run on Linux and Android")
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: files of two users, or namespaces")
ANOTHER_USER = 65534
CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
PARENT = '"${TMPDIR:-/tmp}"'


class LocalShell(Shell):
    """This machine's shell, with a temporary folder and, in ``programs``, commands of its own."""

    spec = "here"
    connected = True

    def __init__(self, folder: Path, *inside: str, shell: str = "sh") -> None:
        self._command = [*inside, shell, "-c"]
        self.programs = folder / "bin"
        self.files = folder / "tmp"
        for made in (self.programs, self.files):
            made.mkdir(exist_ok=True)

    def start(self, command: str) -> Channel:
        path = f"{self.programs}:{os.environ['PATH']}"
        environment = {**os.environ, "TMPDIR": str(self.files), "PATH": path}
        return LocalProcess([*self._command, command], environment)

    def send(self, files: Mapping[str, Path | bytes]) -> None:
        raise NotImplementedError

    def connect(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


@pytest.fixture(params=[name for name in ("dash", "bash", "mksh") if shutil.which(name)])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> LocalShell:
    """Each POSIX shell that is here; phones have mksh."""
    return LocalShell(tmp_path, shell=request.param)


def left_by_a_lost_device(shell: LocalShell, restore: str) -> Path:
    """A folder of ours whose keeper is gone, with such notes."""
    folder = shell.files / "lutra-0123456789ab"
    folder.mkdir()
    host = os.uname().nodename
    (folder / "keeper").write_text(f"1 {host} another-boot pid:[1]\n")
    (folder / "restore").write_text(restore)
    return folder


def change_settings(shell: LocalShell) -> Path:
    """Give it Android's command for settings; its log has a line for each call."""
    log = shell.files / "settings.log"
    log.touch()
    program = shell.programs / "settings"
    program.write_text(f'#!/bin/sh\necho "$*" >> {log}\n')
    program.chmod(0o755)
    return log


def test_it_is_there_until_it_is_closed(shell: LocalShell) -> None:
    folder = RemoteFolder(shell, PARENT)
    assert Path(folder.path).parent == shell.files
    assert stat.S_IMODE(Path(folder.path).stat().st_mode) == 0o700
    folder.close()
    folder.close()
    assert not list(shell.files.iterdir())


def test_what_a_lost_device_left_is_put_back_and_removed(shell: LocalShell) -> None:
    log = change_settings(shell)
    left = left_by_a_lost_device(shell, "setting stay_on_while_plugged_in 3\n")
    RemoteFolder(shell, PARENT).close()
    assert not left.exists()
    assert log.read_text() == "put global stay_on_while_plugged_in 3\n"


@pytest.mark.parametrize(
    "note",
    [
        "touch @",
        "$(touch @)",
        "`touch @`",
        "governor 0;touch @ performance",
        "governor $(touch @) performance",
        "governor 0 performance;touch @",
        "governor ../../../../../.@ x",
        "setting stay_on_while_plugged_in 3;touch @",
        "setting stay_on_while_plugged_in $(touch @)",
        "setting adb_enabled 0",
        "setting stay_on_while_plugged_in -1",
        "setting stay_on_while_plugged_in",
        "settings put global stay_on_while_plugged_in 3",
        "setting stay_on_while_plugged_in 3 4",
    ],
)
def test_notes_are_data_of_a_fixed_grammar(shell: LocalShell, note: str, tmp_path: Path) -> None:
    log = change_settings(shell)
    pwned = tmp_path / "pwned"
    left = left_by_a_lost_device(shell, note.replace("@", str(pwned)) + "\n")
    RemoteFolder(shell, PARENT).close()
    assert not left.exists()
    assert not pwned.exists()
    assert log.read_text() == ""


@ROOT
@pytest.mark.parametrize("kind", ["script", "link to a script", "pipe", "link to a folder"])
def test_what_another_user_put_there_is_neither_run_nor_touched(
    shell: LocalShell, kind: str, tmp_path: Path
) -> None:
    """Before, a link named ``restore`` to a file of ours was run, and a pipe waited for."""
    pwned, ours = tmp_path / "pwned", tmp_path / "ours.sh"
    log = change_settings(shell)
    ours.write_text(f"touch {pwned}\nsetting stay_on_while_plugged_in 3\n")
    left = left_by_a_lost_device(shell, ours.read_text())
    if kind == "link to a script":
        (left / "restore").unlink()
        (left / "restore").symlink_to(ours)
    elif kind == "pipe":
        (left / "keeper").unlink()
        os.mkfifo(left / "keeper")
    elif kind == "link to a folder":  # one of ours, which is no business of the keeper's
        elsewhere = left.rename(tmp_path / "elsewhere")
        left.symlink_to(elsewhere)
    if kind != "link to a folder":
        for path in (*left.iterdir(), left):
            os.chown(path, ANOTHER_USER, ANOTHER_USER, follow_symlinks=False)
    else:
        os.chown(left, ANOTHER_USER, ANOTHER_USER, follow_symlinks=False)
    RemoteFolder(shell, PARENT).close()
    assert os.path.lexists(left)
    assert not pwned.exists()
    assert log.read_text() == ""


@ROOT
@pytest.mark.parametrize("inside", [CONTAINER, ()], ids=["another container", "the host"])
def test_a_folder_of_a_container_is_not_cleared_while_it_may_live(
    inside: tuple[str, ...], tmp_path: Path
) -> None:
    """Process numbers mean something else in each; the temporary folder is shared."""
    first = RemoteFolder(LocalShell(tmp_path, *CONTAINER), PARENT)
    second = RemoteFolder(LocalShell(tmp_path, *inside), PARENT)
    assert Path(first.path).exists()
    first.close()
    second.close()
    assert not list((tmp_path / "tmp").iterdir())


def test_a_claim_is_one_hosts(shell: LocalShell, monkeypatch: pytest.MonkeyPatch) -> None:
    first = RemoteFolder(shell, PARENT, claim="the device's one GPU")
    number = (Path(first.path) / "keeper").read_text().split()[0]
    with monkeypatch.context() as patch:
        patch.setattr(locks, "domain", lambda: "another-host")
        RemoteFolder(shell, PARENT, claim="another").close()
        RemoteFolder(shell, PARENT).close()
        with pytest.raises(TransientDeviceError, match=f"here is being .*`kill {number}` there"):
            RemoteFolder(shell, PARENT, claim="the device's one GPU")
        assert [str(path) for path in shell.files.iterdir()] == [first.path]
        first.close()
        RemoteFolder(shell, PARENT, claim="the device's one GPU").close()


def test_what_a_run_of_this_host_left_behind_is_taken_over(shell: LocalShell) -> None:
    """Whoever holds the claim here knows that: its keeper may learn of it much later."""
    left = RemoteFolder(shell, PARENT, claim="device")
    other = RemoteFolder(shell, PARENT, claim="another")
    next_one = RemoteFolder(shell, PARENT, claim="device")
    assert not Path(left.path).exists()
    assert Path(other.path).exists()
    for folder in (left, other, next_one):
        folder.close()
    assert not list(shell.files.iterdir())


def test_the_command_that_clears_does_a_keepers_work(shell: LocalShell) -> None:
    folder = RemoteFolder(shell, PARENT)
    assert shell.run(clear_command(folder.path)).status == 0
    assert not list(shell.files.iterdir())
    folder.abandon()


def test_a_greeting_without_end_is_a_lost_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lutra.devices.remote.folder._START_SECONDS", 0.3)
    monkeypatch.setattr("lutra.devices.sessions.local_process._STOP_SECONDS", 0.3)
    greeting = LocalShell(tmp_path, "sh", "-c", "yes Welcome")
    with pytest.raises(LinkLost, match="here: no answer within"):
        RemoteFolder(greeting, PARENT)
    with pytest.raises(LinkLost, match="output without end"):
        greeting.run("true")
