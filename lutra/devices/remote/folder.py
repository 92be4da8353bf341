"""A folder on another machine for the files of one connection; it goes when the connection goes."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import NamedTuple

from lutra.devices.remote.channel import LineReader, LinkLost, ProgramEnded
from lutra.devices.remote.shell import Shell, StorageFull, full, is_full, quoted
from lutra.errors import PermanentDeviceError

_START_SECONDS = 30.0
_END_SECONDS = 10.0
_MOST_BYTES = 512 << 20  # models kept on a device: phones are small
# Programs leave their numbers in files of the folder and work in it. A number is trusted only
# where both agree: after a reboot it can be anyone's.
_FUNCTIONS = """umask 077; LC_ALL=C; export LC_ALL
works_in() {
 case "$(readlink "/proc/$1/cwd" 2>/dev/null)" in */"${2##*/}") true;; *) false;; esac
}
end() {
 for f in "$@"; do
  [ -r "$f" ] && read -r p < "$f" && works_in "$p" "${f%/*}" && kill -9 "$p"
 done
}
clear() {
 end "$1/script" "$1/pid"
 [ -O "$1/restore" ] && sh "$1/restore"
 rm -rf "$1"
}
"""
# First it does what earlier keepers could not, because the device lost power under them.
_KEEPER = """trap '' HUP
for k in @parent@/lutra-*/keeper; do
 [ -r "$k" ] && read -r p < "$k" && { works_in "$p" "${k%/*}" || clear "${k%/*}"; }
done >/dev/null 2>&1
d=@folder@
mkdir "$d" 2>&1 && cd "$d" && { echo $$ > "$d/keeper"; } 2>&1 || { rm -rf "$d"; exit 1; }
{
@hold@
} >/dev/null 2>&1
echo "@mark@$d"
read -r line
clear "$d" >/dev/null 2>&1
echo @mark@
"""


def clear_command(path: str) -> str:
    """The command that does the work of a keeper that is gone, or whose connection is."""
    return f"{_FUNCTIONS}end {quoted(path)}/keeper; clear {quoted(path)}"


class _Sent(NamedTuple):
    name: str
    size: int


class RemoteFolder:
    """Files of ours under a temporary folder of the device.

    A keeper, a shell that waits for the end of its input, makes the folder and clears it away
    when the connection ends, however it ends: closed, lost, or lutra killed. ``hold`` are commands
    of `device_state` that keep the device awake or hold its clocks; clearing puts that back.
    """

    def __init__(self, shell: Shell, parent: str, hold: str = "") -> None:
        """``parent`` is a word of the shell, quoted by the caller where it must be."""
        self._shell = shell
        self._sent: dict[Path, _Sent] = {}
        self._number = 0
        self._closed = False
        self._mark = f"lutra-{secrets.token_hex(8)}:"
        folder = f"{parent}/lutra-{secrets.token_hex(6)}"
        script = _FUNCTIONS + _KEEPER
        values = {"parent": parent, "folder": folder, "hold": hold or ":", "mark": self._mark}
        for name, value in values.items():
            script = script.replace(f"@{name}@", value)
        self._keeper = shell.start(script)
        self._lines = LineReader(self._keeper)
        try:
            self.path = self._announced()
        except BaseException:
            self.close()
            raise

    def _announced(self) -> str:
        """The folder's path as the device knows it; raises when it could not be made."""
        said = ""
        while True:
            try:
                line = self._lines.line(_START_SECONDS)
            except ProgramEnded:
                break
            if line is None:
                raise LinkLost(f"{self._shell.spec}: no answer within {_START_SECONDS:g} s")
            text = line.decode(errors="replace").strip()
            if text.startswith(self._mark):
                return text.removeprefix(self._mark)
            said = text or said  # a shell's greeting, or why there is no folder
        if is_full(said):
            raise full(self._shell.spec, said)
        raise PermanentDeviceError(
            f"{self._shell.spec}: cannot make a folder: {said or 'no reason given'}"
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

    def end_program(self) -> None:
        """Kill the program whose number is in the folder's file ``pid``."""
        self._shell.run(f"{_FUNCTIONS}end {quoted(self.path)}/pid")

    def close(self) -> None:
        """Have the keeper remove the folder; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(LinkLost, ProgramEnded):
            self._keeper.write(b"\n")
            while (line := self._lines.line(_END_SECONDS)) is not None:
                if line.strip() == self._mark.encode():
                    break
        self._keeper.close()

    def abandon(self) -> None:
        """Let the folder go without a word, its connection being broken; safe to call twice."""
        self._closed = True
        self._keeper.kill()
        self._keeper.close()
