"""How far below its budget a search must stay, by what measuring its candidates has shown.

A search picks what is predicted too fast (the winner's curse), so that the error stated for random
networks is not that of found ones. What is assumed before any is measured is the stated error, half
of it common to the networks of one corner of the space, half each network's own; every candidate
that is measured says more (a normal model with a normal prior).
"""

# docs/decisions.md: A budget that is kept

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, fmean, median

CONFIDENCE = 0.95
_STATED = NormalDist().inv_cdf(0.975)  # a stated interval holds 95 % of networks
_UNKNOWN_PERCENT = 10.0  # where no error is stated
_LEAST_PERCENT = 0.01  # of an error stated as nothing, which could not be learnt to be more
_FAR = 3.0  # deviations
_OF_MEDIAN = 1.4826  # a standard deviation, to the median of absolute ones
_PRIOR_WEIGHT = 2.0  # of the assumed spread, in candidates
_LEAST_OWN = 0.1  # of what candidates differ by is no noise, at least


@dataclass
class Caution:
    """What is known of the errors of predictions where a search looks.

    ``stated_percent`` is within which 95 % of networks lie, None where that is not known.
    ``errors`` are logarithms of what candidates took over what was predicted of them, ``noises``
    the standard deviations of what was measured about what they take, relative.
    """

    stated_percent: float | None
    errors: list[float] = field(default_factory=list)
    noises: list[float] = field(default_factory=list)

    def learn(
        self, predicted_ms: Sequence[float], measured_ms: Sequence[float], noises: Sequence[float]
    ) -> None:
        """Take up candidates that were measured: (N,) each, two in ms, one relative."""
        self.noises += noises
        self.errors += [
            math.log(measured / predicted)
            for predicted, measured in zip(predicted_ms, measured_ms, strict=True)
        ]

    def factor(self, deviations: float) -> float:
        """What a candidate takes over what is predicted, so many standard deviations above."""
        mean, deviation = self._expected()
        return math.exp(mean + deviations * deviation)

    def believed(
        self, predicted_ms: float, measured_ms: float, noise: float
    ) -> tuple[float, float]:
        """What a candidate takes by all that was measured, in ms, and the deviation, relative.

        Of many that were measured the best one was lucky. What it is off its prediction beyond what
        others are counts by how much of that is no noise.
        """
        mean, own, common = self._parts()
        real = max(own - self._noise, _LEAST_OWN * own)
        share = real / (real + noise**2)
        expected = mean + share * (math.log(measured_ms / predicted_ms) - mean)
        variance = share * noise**2 + (1.0 - share) ** 2 * common
        return predicted_ms * math.exp(expected), math.sqrt(variance)

    def deviations_at(self, factor: float) -> float:
        """How many standard deviations above the mean a `factor` is."""
        mean, deviation = self._expected()
        return (math.log(factor) - mean) / deviation

    @property
    def _noise(self) -> float:
        """The usual variance of measuring."""
        return fmean(each**2 for each in self.noises) if self.noises else 0.0

    def _expected(self) -> tuple[float, float]:
        """Mean and standard deviation of the next candidate's error."""
        mean, own, common = self._parts()
        return mean, math.sqrt(own + common)

    def _parts(self) -> tuple[float, float, float]:
        """The errors' mean, and the variances of each network's own part and of the mean."""
        stated = _UNKNOWN_PERCENT if self.stated_percent is None else self.stated_percent
        percent = max(stated, _LEAST_PERCENT)
        prior = (percent / 100.0 / _STATED) ** 2 / 2.0  # of the common part, and of the own
        count = len(self.errors)
        if not count:
            return 0.0, prior, prior
        errors = self._plausible(math.sqrt(prior))
        mean = fmean(errors)
        seen = sum((error - mean) ** 2 for error in errors)
        assumed = prior + self._noise  # of what is measured
        own = (_PRIOR_WEIGHT * assumed + seen) / (_PRIOR_WEIGHT + count - 1)
        # What is seen to be common to all may be far more than was stated.
        common = 1.0 / (1.0 / max(prior, (2.0 * mean) ** 2) + count / own)
        return common * count * mean / own, own, common

    def _plausible(self, usual: float) -> list[float]:
        """The errors, the far ones at the edge of the others: bursts of other work make such."""
        middle = median(self.errors)
        apart = _OF_MEDIAN * median(abs(error - middle) for error in self.errors)
        most = _FAR * max(usual, apart)
        return [min(max(error, middle - most), middle + most) for error in self.errors]


def deviations_of(confidence: float) -> float:
    """How many standard deviations above the mean a share of a normal distribution lies below."""
    return NormalDist().inv_cdf(confidence)


def upper_ms(
    latency_ms: float,
    ci_high_ms: float,
    process_spread: float,
    deviations: float,
    brought: float = 0.0,
) -> float:
    """What a process that runs a network takes at most: its interval and how processes differ.

    ``process_spread`` is relative, as is ``brought``, how unsure what brought the latency from
    another state of the machine to the table's is; all are independent. The interval, of 95 %, is
    widened for more ``deviations`` than that has.
    """
    interval = max(ci_high_ms / latency_ms - 1.0, 0.0) * max(1.0, deviations / _STATED)
    return latency_ms * (
        1.0 + math.hypot(interval, deviations * process_spread, deviations * brought)
    )
