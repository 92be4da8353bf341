"""A network of one's own: a peer in it is reached by address, and its link can be cut."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

NAMESPACES = Path("/run/netns")
PREFIX = "lutra"
SUBNETS = 256
_NAME = re.compile(rf"{PREFIX}-(\d+)-(\d+)")


class Network:
    """A network namespace named ``lutra-PID-N``, joined to the host by 10.231.N.0/30.

    The host's end of the cable, ``lutra-N``, is what claims N: the kernel lets only one process
    create it.
    """

    def __init__(self) -> None:
        self._number: int | None = None

    def __enter__(self) -> Self:
        remove_stale()
        for attempt in range(SUBNETS):
            number = (os.getpid() + attempt) % SUBNETS
            if self._claim(number):
                self._number = number
                try:
                    self._configure()
                except BaseException:
                    self.close()
                    raise
                return self
        raise RuntimeError(f"all of the {SUBNETS} test networks are in use")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def number(self) -> int:
        """N of 10.231.N.0/30."""
        if self._number is None:
            raise RuntimeError("the network is not open")
        return self._number

    @property
    def namespace(self) -> str:
        """The namespace's name, for ``ip -n NAME``."""
        return _namespace(os.getpid(), self.number)

    @property
    def path(self) -> Path:
        """The namespace's file, for ``nsenter --net=PATH``."""
        return NAMESPACES / self.namespace

    @property
    def address(self) -> str:
        """The peer's address."""
        return f"10.231.{self.number}.2"

    @property
    def host_address(self) -> str:
        """The host's address, as the peer sees it."""
        return f"10.231.{self.number}.1"

    def down(self) -> None:
        """Cut the link: packets are lost in silence, as with a phone out of reach.

        The peer's end is what goes down; without its own end, the host would drop the route
        too and fail at once instead of waiting.
        """
        _ip("-n", self.namespace, "link", "set", "eth0", "down")

    def up(self) -> None:
        """Join the link again; does nothing when it is not cut."""
        _ip("-n", self.namespace, "link", "set", "eth0", "up")

    def close(self) -> None:
        """Remove the namespace and the link."""
        if self._number is not None:
            number, self._number = self._number, None
            _remove(os.getpid(), number)

    def _claim(self, number: int) -> bool:
        namespace = _namespace(os.getpid(), number)
        if _try_ip("netns", "add", namespace) != 0:
            return False
        peer = ("peer", "name", "eth0", "netns", namespace)
        if _try_ip("link", "add", _cable(number), "type", "veth", *peer) == 0:
            return True
        _try_ip("netns", "delete", namespace)
        return False

    def _configure(self) -> None:
        inside = ("-n", self.namespace)
        _ip("address", "add", f"{self.host_address}/30", "dev", _cable(self.number))
        _ip(*inside, "address", "add", f"{self.address}/30", "dev", "eth0")
        _ip(*inside, "link", "set", "lo", "up")
        _ip(*inside, "link", "set", "eth0", "up")
        _ip("link", "set", _cable(self.number), "up")


def remove_stale() -> None:
    """Remove the networks of processes that ended without doing so."""
    if not NAMESPACES.is_dir():
        return
    for path in NAMESPACES.iterdir():
        match = _NAME.fullmatch(path.name)
        if match and not Path("/proc", match[1]).exists():
            _remove(int(match[1]), int(match[2]))


def _remove(pid: int, number: int) -> None:
    # The namespace lives on while a process is in it; its link must not.
    namespace = _namespace(pid, number)
    _try_ip("-n", namespace, "link", "delete", "eth0")
    _try_ip("netns", "delete", namespace)
    with contextlib.suppress(FileNotFoundError):
        (NAMESPACES / namespace).unlink()  # another mount namespace may have kept it busy


def _namespace(pid: int, number: int) -> str:
    return f"{PREFIX}-{pid}-{number}"


def _cable(number: int) -> str:
    return f"{PREFIX}-{number}"


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _try_ip(*arguments: str) -> int:
    return subprocess.run(["ip", *arguments], capture_output=True, check=False).returncode
