"""One measurement at a time on each core and device: claims that the kernel gives up.

Two runs on one core make networks 1.5 times too slow and call them stable; two on one phone fight
over its clocks and its screen. So a session claims what it measures on for as long as it is open.
"""

from __future__ import annotations

from collections.abc import Sequence

from lutra.errors import TransientDeviceError
from lutra.files.locks import Lock, take

Claim = Lock
"""What is held; closing it gives it up."""
_taken = take


def claim(resource: str) -> Claim:
    """Claim one thing by its name (``phone R58M123``), the same however it was found.

    Raises `TransientDeviceError`, which names the holder, while another session has it.
    """
    taken = _taken(resource)
    if isinstance(taken, str):
        raise _busy(f"{resource} is being measured on by {taken}")
    return taken


def claim_cores(count: int, candidates: Sequence[int]) -> tuple[tuple[int, ...], Claim]:
    """Claim ``count`` cores of this machine: the first of the candidates that are free, sorted.

    Raises `TransientDeviceError`, which names the holders, where too few are.
    """
    cores, holders, claims = [], [], Claim()
    for core in candidates:
        taken = _taken(f"core {core}")
        if isinstance(taken, str):
            holders.append(f"core {core} by {taken}")
        else:
            claims.enter_context(taken)
            cores.append(core)
        if len(cores) == count:
            return tuple(sorted(cores)), claims
    claims.close()
    raise _busy(f"no core is left to measure on: {', '.join(holders)}")


def _busy(what: str) -> TransientDeviceError:
    return TransientDeviceError(
        f"{what}. Two runs at once would spoil both: wait for it to end, or stop it"
    )
