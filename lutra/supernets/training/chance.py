"""Random numbers of a training, each drawn from its seed and where in the training it is used.

No generator's state is carried along: a training that goes on at a step draws what it would have
drawn had it not been interrupted.
"""

# docs/decisions.md: Chance by place

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Use(IntEnum):
    """What numbers are drawn for; each use has a stream of its own."""

    WEIGHTS = 0
    ORDER = 1
    NETWORKS = 2
    AUGMENTATION = 3
    DROPOUT = 4


def generator(seed: int, use: Use, *where: int) -> np.random.Generator:
    """The generator for one use at one place, such as an epoch and a step."""
    return np.random.default_rng([seed, use, *where])


def torch_seed(seed: int, use: Use, *where: int) -> int:
    """A seed for torch's generators."""
    return int(np.random.SeedSequence([seed, use, *where]).generate_state(1)[0])


def order_of_epoch(seed: int, epoch: int, images: int) -> npt.NDArray[np.int64]:
    """The order in which an epoch takes the training images."""
    return generator(seed, Use.ORDER, epoch).permutation(images)
