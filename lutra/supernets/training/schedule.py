"""What is trained when: phases of a schedule, which networks they draw from, learning rates.

Progressive shrinking (Cai et al., "Once-for-All", ICLR 2020) trains the largest network and then
frees the genes, list by list: kernel sizes, depths, expansions, and widths where a space has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lutra.errors import UsageError
from lutra.spaces.architecture import Architecture
from lutra.spaces.base import SearchSpace

METHODS = ("progressive", "sandwich")
ALL = 1 << 15  # choices of a gene
REFERENCE_BATCH = 64  # images; what published learning rates are stated for
SANDWICH_EPOCHS = 360  # of BigNAS (Yu et al., 2020)
SANDWICH_NETWORKS = 4
# BigNAS trains with RMSProp; this is of Fashion-MNIST, where 0.03 learned less and 0.25 as much.
_SANDWICH_RATE = 0.12

# The authors' schedule: epochs, learning rate at `REFERENCE_BATCH`, warm-up epochs, networks per
# step. The largest network's 2.6 is for 2,048 images (the paper, section 4.1).
_LARGEST = (180, 2.6 * REFERENCE_BATCH / 2048, 5.0, 1)
_KERNEL = (120, 3e-2, 5.0, 1)
_FIRST = (25, 2.5e-3, 0.0)
_SECOND = (120, 7.5e-3, 5.0)
# In the order in which lists are freed: the list, its name in phases, networks per step. Lists of
# the first kind are freed at once, the others in two phases.
_AT_ONCE = {"ks": "kernel"}
_IN_TWO = {"d": ("depth", 2), "e": ("expand", 4), "w": ("width", 4)}


@dataclass(frozen=True)
class Phase:
    """A stretch of training with networks of one kind.

    ``free`` says per list of the space's genes how many of a gene's largest choices networks are
    drawn from (lists that are not named: the largest alone). ``learning_rate`` is its peak, for
    `REFERENCE_BATCH` images per step. With ``sorts`` channels are sorted by importance before the
    phase; those of the expansions ``kept``, trained by then, stay where they are.
    """

    name: str
    free: Mapping[str, int]
    epochs: int
    learning_rate: float
    warm_up_epochs: float
    networks: int
    distils: bool = True
    sorts: bool = False
    kept: tuple[float, ...] = ()

    def sample(
        self, space: SearchSpace, rng: np.random.Generator, resolution: int, count: int
    ) -> list[Architecture]:
        """Architectures at a resolution, each gene drawn uniformly from its free choices."""
        counts = space.choice_counts
        free = np.array([self.free.get(gene.list_name, 1) for gene in space.genes])
        below = rng.integers(0, np.minimum(free, counts), (count, len(counts)))
        rows = (counts - 1 - below).astype(np.int16)
        rows[:, -1] = space.resolution_indices([resolution])
        return [space.decode(row) for row in rows]

    def rate(self, done: float, batch: int) -> float:
        """The learning rate for ``batch`` images per step when a share of the phase is done.

        A linear warm-up, then a cosine to zero; in proportion to the batch (Goyal et al., 2017).
        """
        peak = self.learning_rate * batch / REFERENCE_BATCH
        warm_up = self.warm_up_epochs / self.epochs
        if done < warm_up:
            return peak * done / warm_up
        return peak * 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))


def progressive_schedule(space: SearchSpace) -> list[Phase]:
    """The published schedule, for the lists of genes that the space has.

    Expansions are sorted before each of their phases, as in the authors' code. ResNet50D's widths,
    for which they published none, follow the expansions.
    """
    free: dict[str, int] = {}
    phases = [_phase("largest", free, *_LARGEST)]
    phases[0] = replace(phases[0], distils=False)
    for name, title in _AT_ONCE.items():
        if name in space.list_names:
            free[name] = ALL
            phases.append(_phase(title, free, *_KERNEL))
    for name, (title, networks) in _IN_TWO.items():
        if name in space.list_names:
            for number, (most, numbers) in enumerate(((2, _FIRST), (ALL, _SECOND)), 1):
                phase = _phase(f"{title} {number}", {**free, name: most}, *numbers, networks)
                if name == "e":
                    trained = _choices(space, name)[-2:-1] if number == 2 else ()
                    phase = replace(phase, sorts=True, kept=trained)
                phases.append(phase)
            free[name] = ALL
    return phases


def sandwich_schedule(space: SearchSpace) -> list[Phase]:
    """One phase of all networks: BigNAS's single stage (Yu et al., 2020)."""
    free = dict.fromkeys(space.list_names, ALL)
    phase = _phase("sandwich", free, SANDWICH_EPOCHS, _SANDWICH_RATE, 5.0, SANDWICH_NETWORKS)
    return [replace(phase, distils=False)]


def _phase(
    name: str,
    free: Mapping[str, int],
    epochs: int,
    learning_rate: float,
    warm_up_epochs: float,
    networks: int,
) -> Phase:
    return Phase(name, dict(free), epochs, learning_rate, warm_up_epochs, networks)


def _choices(space: SearchSpace, name: str) -> tuple[float, ...]:
    return space.genes[space.columns(name)[0]].choices


def schedule_of(
    method: str, space: SearchSpace, epochs: int | None = None, learning_rate: float | None = None
) -> list[Phase]:
    """A method's phases, which take so many epochs in all, each its share of them.

    ``learning_rate`` is the first phase's peak at `REFERENCE_BATCH`; the others' stay in
    proportion. Both are by default the published ones. Raises `UsageError` for an unknown method,
    or for fewer epochs than there are phases.
    """
    if method not in METHODS:
        raise UsageError(f"unknown method '{method:.40}'; known: {', '.join(METHODS)}")
    phases = {"progressive": progressive_schedule, "sandwich": sandwich_schedule}[method](space)
    if epochs is not None:
        phases = _scaled(phases, epochs)
    if learning_rate is not None:
        factor = learning_rate / phases[0].learning_rate
        phases = [replace(phase, learning_rate=phase.learning_rate * factor) for phase in phases]
    return phases


def _scaled(phases: list[Phase], epochs: int) -> list[Phase]:
    """The phases in so many epochs: at least one each, the rest by share, largest remainders up."""
    if epochs < len(phases):
        names = ", ".join(phase.name for phase in phases)
        raise UsageError(
            f"{epochs} epochs are too few: there are {len(phases)} phases ({names}), and each"
            " takes one at least"
        )
    published = sum(phase.epochs for phase in phases)
    wanted = [phase.epochs * epochs / published for phase in phases]
    given = [max(1, int(share)) for share in wanted]
    while sum(given) != epochs:
        step = 1 if sum(given) < epochs else -1
        owed = [
            step * (share - have) if have + step >= 1 else -math.inf
            for share, have in zip(wanted, given, strict=True)
        ]
        given[owed.index(max(owed))] += step
    return [
        replace(phase, epochs=count, warm_up_epochs=phase.warm_up_epochs * count / phase.epochs)
        for phase, count in zip(phases, given, strict=True)
    ]
