"""Which parts of a superkernel network are in use: numbers of 0 and 1 that have gradients.

Of a gene's choices each one holds the smaller ones and an outer part more. A gate is 1 where an
outer part is used; a part that a smaller choice lacks is used only where that one is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Gates(NamedTuple):
    """By elastic block at full depth: gates of ``kernels`` (blocks, choices) and of ``expansions``.

    A gene's first choice is in every one: its gate is 1. ``used`` (blocks,) are the blocks' own.
    """

    kernels: Tensor
    expansions: Tensor
    used: Tensor


def gates_of(logits: Tensor) -> Tensor:
    """(genes, choices - 1) logits to (genes, choices) gates, each at most the one before it.

    1 where a logit is above 0, and those before it are; the gradient is a sigmoid's (Stamoulis et
    al., 2019, section 3.2; Bengio et al., 2013).
    """
    relaxed = torch.sigmoid(logits)
    indicators = (logits > 0).to(logits) + (relaxed - relaxed.detach())
    return torch.cat([indicators.new_ones(len(indicators), 1), indicators.cumprod(1)], 1)


def probabilities(gates: Tensor) -> Tensor:
    """(genes, choices) gates to (genes, choices): 1 for the choice that is made, and relaxed so."""
    return gates - torch.cat([gates[:, 1:], torch.zeros_like(gates[:, :1])], 1)
