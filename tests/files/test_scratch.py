"""Temporary folders: gone with their process, cleared by the next run, nobody else's touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from subprocess import PIPE

import pytest

from lutra.files.scratch import scratch_folder

_HOLDER = """
from lutra.files.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "model.onnx").write_bytes(bytes(1000))
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder like the system's, the test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tmp_path.chmod(0o1777)
    return tmp_path


def test_it_is_gone_at_the_end(shared: Path) -> None:
    with scratch_folder() as folder:
        assert folder.parent == shared
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "sub").mkdir()
        (folder / "sub" / "file").touch()
    assert list(shared.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_lives_stays(shared: Path) -> None:
    command = [sys.executable, "-c", _HOLDER]
    with (
        subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as killed,
        subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as living,
    ):
        assert killed.stdout is not None
        assert living.stdout is not None
        left, used = (Path(output.readline().strip()) for output in (killed.stdout, living.stdout))
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert (left / "model.onnx").exists()
        with scratch_folder() as mine, scratch_folder() as another:
            assert set(shared.iterdir()) == {used, mine, another}
        assert (used / "model.onnx").exists()
        living.communicate("\n")
    assert list(shared.iterdir()) == []


def test_what_only_looks_like_it_stays(
    shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "file").touch()
    (shared / "lutra-scratch-abcdefgh").symlink_to(elsewhere)
    (shared / "lutra-scratch-aaaaaaaa").write_text("a file")
    (shared / "lutra-scratch-my-own-notes").mkdir()
    before = set(shared.iterdir())
    with scratch_folder():
        pass
    assert set(shared.iterdir()) == before
    assert (elsewhere / "file").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's folder")
def test_another_user_s_stays(shared: Path) -> None:
    theirs = shared / "lutra-scratch-abcdefgh"
    theirs.mkdir(mode=0o777)
    os.chown(theirs, 12345, 12345)
    with scratch_folder():
        pass
    assert theirs.exists()
