"""A place on a device to work from: our folder and files, and the state it was brought into."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lutra.devices.remote.channel import LinkLost
from lutra.devices.remote.folder import RemoteFolder
from lutra.devices.remote.keeper import clear_command
from lutra.devices.remote.probe import STATE_SCRIPT, parse_facts
from lutra.devices.remote.shell import Shell


@dataclass(frozen=True)
class WorkspaceSpec:
    """How to work on a device: where files go, which, and in which state.

    ``parent`` is a word of the device's shell; ``hold`` are commands of `device_state`,
    which put back what they change. ``claim`` is what no other run may hold there meanwhile: the
    device, or a part of it. Runs of this machine see each other earlier (`lutra.devices.claims`),
    those of other hosts and containers only there.
    """

    parent: str
    files: Mapping[str, Path | bytes] = field(default_factory=dict)
    hold: str = ""
    claim: str = "device"


class Workspace:
    """Our folder on the device, made when first needed and again after each lost link."""

    def __init__(self, shell: Shell, spec: WorkspaceSpec) -> None:
        self.shell = shell
        self._spec = spec
        self._folder: RemoteFolder | None = None
        self._lost = False
        self._left: list[str] = []

    def folder(self) -> RemoteFolder:
        """The folder with our files in it.

        Raises `LinkLost`, `TransientDeviceError` when the device stays away or is another run's,
        `StorageFull`, and `PermanentDeviceError` where no folder can be made.
        """
        if self._folder is None:
            if self._lost:
                self.shell.reconnect()
                self._clear_left()
                self._lost = False
            self._folder = RemoteFolder(
                self.shell, self._spec.parent, self._spec.hold, self._spec.claim
            )
            self._folder.send(self._spec.files)
        return self._folder

    def lose(self) -> None:
        """Let go of a broken connection; what it leaves is removed over the next one."""
        self._lost = True
        if self._folder is not None:
            self._left.append(self._folder.path)
            self._folder.abandon()
            self._folder = None

    def _clear_left(self) -> None:
        """Clear away what broken connections left.

        Their keepers may not know yet that the link broke: one that put the device's state back
        later would do so in the middle of our run. A device that lost power has none.
        """
        for path in self._left:
            self.shell.run(clear_command(path))
        self._left.clear()

    def throttled(self) -> bool:
        """Whether the device says that it holds its clocks back now."""
        try:
            return bool(parse_facts(self.shell.run(STATE_SCRIPT).output).throttled)
        except LinkLost:
            return False  # the next batch finds that out, and reconnects

    def close(self) -> None:
        """Leave the device as it was, as far as it can be reached; safe to call twice."""
        if self._folder is not None:
            self._folder.close()
            self._folder = None
        if self._left:
            with contextlib.suppress(LinkLost):
                self._clear_left()
        self.shell.close()
