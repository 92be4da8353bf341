"""Measure a batch although the link to the device breaks in the middle of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from lutra.devices.base import Outcome, RequestFailure, TimingRequest
from lutra.devices.remote.channel import LinkLost

TRIES = 3


def measure_despite_losses(
    requests: Iterable[TimingRequest],
    measure: Callable[[Sequence[TimingRequest]], Iterator[Outcome]],
    lose: Callable[[], None],
) -> Iterator[Outcome]:
    """One outcome per request from ``measure``, which is called anew when it ends early.

    Only what was not answered is measured again. A `LinkLost` ends it early too: ``lose`` lets go
    of the broken connection. A request during which the link broke `TRIES` times in a row is given
    up: it may be the cause.
    """
    pending = list(requests)
    losses = 0
    while pending:
        try:
            for outcome in measure(tuple(pending)):
                losses = 0
                pending.pop(0)
                yield outcome
        except LinkLost as lost:
            lose()
            losses += 1
            if losses == TRIES:
                losses = 0
                yield RequestFailure(pending.pop(0).id, "link", str(lost), transient=True)
