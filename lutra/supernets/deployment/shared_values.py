"""Few values that all weights of a layer share, trained with the network (weight clustering).

Han et al., "Deep Compression" (ICLR 2016): k-means from values at equal distances, then training in
which each value gets the gradients of all its weights. Three things are otherwise, so that the
*emitted* file has few values and these take few bits:

- what is shared are a channel's weights divided by its largest one, in 127ths: the integers of an
  8-bit file. Batch normalisation multiplies each channel by a factor of its own and would make as
  many values of one as there are channels; the file's scales take that.
  docs/decisions.md: Values on the grid of 8 bits.
- a weight goes to a rarer value only if that is as much nearer as its longer code is worth
  (entropy-constrained quantisation: Chou, Lookabaugh and Gray, 1989).
- weights move on while they are trained, straight through the sharing, and may change their value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

STEPS = 127  # of an 8-bit weight, on either side of 0
_ROUNDS = 20
_RAREST = 1e-4  # a share; codes have 12 bits at most


class SharedValues(nn.Module):
    """A parametrisation of a weight (out, ...): each a channel's largest times one of few values.

    ``values`` (k,) are from -1 to 1, in rising order, with these and 0 fixed. ``price`` is what a
    bit of a weight's code is worth in squared error, relative to the variance of the layer's
    weights. Weights that are 0 at the start stay so.
    """

    kept: Tensor
    shares: Tensor
    rates: Tensor

    def __init__(self, weight: Tensor, count: int, price: float) -> None:
        super().__init__()
        self.price = price
        self.register_buffer("kept", weight != 0)
        normalised = _normalised(weight)[weight != 0]
        self.variance = float(normalised.square().mean()) if len(normalised) else 1.0
        below, above = torch.linspace(-1, 0, count // 2 + 1), torch.linspace(0, 1, -(-count // 2))
        values = torch.cat([below[:-1], above])
        shares = torch.full((count,), 1 / count)
        for _ in range(_ROUNDS):
            indices = _nearest(normalised, values, shares, price * self.variance)
            counts = torch.bincount(indices, minlength=count)
            means = torch.bincount(indices, normalised, count) / counts.clamp(min=1)
            values = _ordered(torch.where(counts > 0, means, values), values)
            shares = counts / max(1, len(indices))
        self.register_buffer("shares", shares)
        # A value moves as its weights would on average, and not by the sum of all their steps.
        weights = (shares * len(normalised)).clamp(min=1)
        self.register_buffer("rates", 1 / (weights * _largest(weight).square().mean()))
        self.values = nn.Parameter(values)

    def forward(self, weight: Tensor) -> Tensor:
        """The weights with shared values; gradients go to both."""
        values = self.on_grid()
        normalised, largest = _normalised(weight.detach()), _largest(weight.detach())
        indices = _nearest(normalised, values.detach(), self.shares, self.price * self.variance)
        shared = values[indices] * largest
        return (shared + (weight - weight.detach())) * self.kept

    def on_grid(self) -> Tensor:
        """The values in whole 127ths, with the gradients of those that are trained."""
        fixed = self.values.detach()
        values = _ordered(fixed + self.rates * (self.values - fixed), fixed)
        return values + (torch.round(values * STEPS) / STEPS - values).detach()


def _largest(weight: Tensor) -> Tensor:
    """Each channel's largest weight (out, 1, ...)."""
    flat = weight.abs().flatten(1).amax(1).clamp(min=1e-12)
    return flat.reshape(-1, *[1] * (weight.dim() - 1))


def _normalised(weight: Tensor) -> Tensor:
    return weight / _largest(weight)


def _ordered(values: Tensor, before: Tensor) -> Tensor:
    """Values with -1, 0 and 1 where they were, the others between them."""
    zero = int(before.abs().argmin())
    fixed = torch.zeros_like(values)
    fixed[0], fixed[-1] = -1.0, 1.0
    free = torch.ones_like(values)
    free[[0, zero, -1]] = 0.0
    return values.clamp(-1, 1) * free + fixed


def _nearest(weight: Tensor, values: Tensor, shares: Tensor, price: float) -> Tensor:
    """The index of the value that each weight goes to, its error and its code's length weighed."""
    lengths = -shares.double().clamp(min=_RAREST).log2() * price
    # The largest of a channel keeps its value, or there would be other integers in the file.
    lengths[[0, -1]] = lengths.min()
    chosen, borders = _envelope(values.double().tolist(), lengths.tolist())
    known = torch.tensor(borders, device=weight.device)
    places = torch.bucketize(weight, known, right=True)
    return torch.tensor(chosen, device=weight.device)[places]


def _envelope(values: list[float], costs: list[float]) -> tuple[list[int], list[float]]:
    """Which values are the best for some weight, and the weights from which on each next one is.

    The squared distance to a value plus its cost is, but for what all share, a line in the weight.
    Of values that training moved past each other the dearer one is left out.
    """
    chosen, borders = [0], [-math.inf]
    for index in range(1, len(values)):
        while chosen:
            last = chosen[-1]
            apart = values[index] - values[last]
            if apart <= 0:
                border = -math.inf if costs[index] < costs[last] else math.inf
            else:
                border = (values[index] + values[last]) / 2
                border += (costs[index] - costs[last]) / (2 * apart)
            if border > borders[-1]:
                break
            chosen.pop()
            borders.pop()
        if not chosen:
            border = -math.inf
        if border < math.inf:
            chosen.append(index)
            borders.append(border)
    return chosen, borders[1:]


def bits_per_weight(weights: Iterable[Tensor]) -> float:
    """The mean entropy of layers' weights (out, ...) as an 8-bit file has them, in bits."""
    bits = count = 0.0
    for weight in weights:
        steps = torch.round(_normalised(weight) * STEPS)
        _, counts = torch.unique(steps, return_counts=True)
        shares = counts / weight.numel()
        bits -= float((counts * shares.log2()).sum())
        count += weight.numel()
    return bits / count
