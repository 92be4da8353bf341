"""A folder on another machine for the files of one connection; it goes when the connection goes."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import NamedTuple

from lutra.devices.remote.channel import LineReader, LinkLost, ProgramEnded
from lutra.devices.remote.keeper import end_command, keeper_script
from lutra.devices.remote.shell import Shell, StorageFull, full, is_full, quoted
from lutra.errors import PermanentDeviceError, TransientDeviceError
from lutra.files import locks
from lutra.text import printable_line

_START_SECONDS = 30.0
_END_SECONDS = 10.0
_MOST_BYTES = 512 << 20  # models kept on a device: phones are small


class _Sent(NamedTuple):
    name: str
    size: int


class RemoteFolder:
    """Files of ours under a temporary folder of the device.

    Its keeper makes it and clears it away (`lutra.devices.remote.keeper`). ``hold`` are commands
    of `device_state` that keep the device awake or hold its clocks; clearing puts that back.
    ``claim`` is what no other host's folder may hold at the same time; among the runs of this one
    the caller holds it already (`lutra.devices.claims`).
    """

    def __init__(self, shell: Shell, parent: str, hold: str = "", claim: str = "") -> None:
        """``parent`` is a word of the shell, quoted by the caller where it must be.

        Raises `TransientDeviceError` while another host holds the claim, `LinkLost`, `StorageFull`,
        and `PermanentDeviceError` where no folder can be made.
        """
        self._shell = shell
        self._sent: dict[Path, _Sent] = {}
        self._number = 0
        self._closed = False
        self._mark = f"lutra-{secrets.token_hex(8)}:"
        name = f"lutra-{secrets.token_hex(6)}"
        self._keeper = shell.start(
            keeper_script(parent, name, self._mark, hold, claim, locks.domain())
        )
        self._lines = LineReader(self._keeper)
        try:
            self.path = self._announced()
        except BaseException:
            self._closed = True
            self._keeper.close()  # a keeper that is there clears it away
            raise

    def _announced(self) -> str:
        """The folder's path as the device knows it; raises when it could not be made."""
        said = ""
        try:
            for line in self._lines.lines(_START_SECONDS):
                text, mark, path = line.decode(errors="replace").strip().partition(self._mark)
                if mark and path.startswith("busy "):
                    raise self._busy(path.removeprefix("busy "))
                if mark:
                    return path
                said = text or said  # a shell's greeting, or why there is no folder
            raise LinkLost(f"{self._shell.spec}: no answer within {_START_SECONDS:g} s")
        except ProgramEnded:
            pass
        if is_full(said):
            raise full(self._shell.spec, said)
        raise PermanentDeviceError(
            f"{self._shell.spec}: cannot make a folder: {said or 'no reason given'}"
        )

    def _busy(self, keeper: str) -> TransientDeviceError:
        return TransientDeviceError(
            f"{self._shell.spec} is being measured on by another run, of another host or container."
            " Two runs at once would spoil both: wait for it to end, or where it is long gone,"
            f" `kill {printable_line(keeper)}` there"
        )

    def send(self, files: Mapping[str, Path | bytes]) -> None:
        """Put files into the folder under the given names."""
        self._shell.send({f"{self.path}/{name}": content for name, content in files.items()})

    def place(self, models: Iterable[Path]) -> dict[Path, str]:
        """Where each model is on the device; those that are not there yet are sent.

        Names on the device are ours: nothing of a local name reaches its shell. Models that do
        not exist here are left out. Raises `LinkLost` and `StorageFull`.
        """
        wanted = [path for path in dict.fromkeys(models) if path.is_file()]
        new = {path: path.stat().st_size for path in wanted if path not in self._sent}
        if new:
            self._make_room(sum(new.values()), set(wanted))
            try:
                self._send_models(new)
            except StorageFull:
                self._make_room(_MOST_BYTES, set(wanted))
                self._send_models(new)
        return {path: self._sent[path].name for path in wanted}

    def _send_models(self, sizes: Mapping[Path, int]) -> None:
        models = {
            path: _Sent(f"{self.path}/{self._number + place:06d}.model", size)
            for place, (path, size) in enumerate(sizes.items())
        }
        try:
            self._shell.send({model.name: path for path, model in models.items()})
        except StorageFull:
            self._remove(models.values())  # what part of them arrived takes the room there is
            raise
        self._number += len(models)
        self._sent.update(models)

    def _make_room(self, needed: int, wanted: Set[Path]) -> None:
        """Remove models that are not wanted now, the oldest first, to stay within our share."""
        total = needed + sum(model.size for model in self._sent.values())
        dropped = []
        for path in list(self._sent):
            if total <= _MOST_BYTES:
                break
            if path not in wanted:
                dropped.append(self._sent.pop(path))
                total -= dropped[-1].size
        if dropped:
            self._remove(dropped)

    def _remove(self, models: Iterable[_Sent]) -> None:
        self._shell.run("rm -f " + " ".join(quoted(model.name) for model in models))

    def end_program(self) -> bool:
        """Kill the program whose number is in the file ``pid``, and the script that started it.

        Whether it still ran.
        """
        return self._shell.run(end_command(self.path)).status == 0

    def close(self) -> None:
        """Have the keeper remove the folder; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(LinkLost, ProgramEnded):
            self._keeper.write(b"\n")
            for line in self._lines.lines(_END_SECONDS):
                if line.strip() == self._mark.encode():
                    break
        self._keeper.close()

    def abandon(self) -> None:
        """Let the folder go without a word, its connection being broken; safe to call twice."""
        self._closed = True
        self._keeper.kill()
        self._keeper.close()
