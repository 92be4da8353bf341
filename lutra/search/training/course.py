"""The course of a single-path search: trained, on and on while it must, and what it chose alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lutra.search.candidate import Candidate
from lutra.search.question import Question

if TYPE_CHECKING:
    from lutra.supernets.data.base import ImageSet
    from lutra.supernets.evaluation import OnStep
    from lutra.supernets.single_path.budget import Budget
    from lutra.supernets.single_path.network import SuperkernelNetwork
    from lutra.supernets.single_path.pressure import Pressure
    from lutra.supernets.single_path.runtime import Runtime
    from lutra.supernets.single_path.training import SearchStep
    from lutra.supernets.subnet import Subnet

RATE_FROM_CHECKPOINT = 0.02  # of weights that are trained already
_PARTS = 4  # of a search's epochs: one of them each time that it goes on


@dataclass(frozen=True, eq=False)
class Asked:
    """What a search works with, all of it known to fit together."""

    question: Question
    runtime: Runtime
    budget: Budget
    pressure: Pressure
    train: ImageSet
    validation: ImageSet

    @property
    def resolution(self) -> int:
        """In pixels."""
        return self.question.resolutions[0]

    def lowered(self, limit_ms: float) -> Asked:
        """With a limit on predictions instead of the budget; the price of latency is kept."""
        from lutra.supernets.single_path.pressure import Pressure

        budget = self.budget.predicting(limit_ms)
        return replace(
            self, budget=budget, pressure=Pressure(self.pressure.multiplier, budget.predicted_ms)
        )


class Course:
    """A network that is trained, and the ``steps`` that were taken so far."""

    def __init__(
        self,
        asked: Asked,
        network: SuperkernelNetwork,
        *,
        epochs: int,
        fine_tune_epochs: int,
        learning_rate: float,
        seed: int,
        on_step: OnStep,
    ) -> None:
        self._asked = asked
        self._network = network
        self._epochs = epochs
        self._fine_tune_epochs = fine_tune_epochs
        self._rate = learning_rate
        self._seed = seed
        self._report = _Report(on_step)
        self.steps: list[SearchStep] = []

    def begin(self) -> Candidate:
        """Search; what that ends with, its accuracy not known yet (NaN)."""
        return self._search(self._epochs, self._rate, self._seed)

    def go_on(self, limit_ms: float) -> Candidate:
        """Search on from weights and thresholds as they are, predictions limited to some ms."""
        self._asked = self._asked.lowered(limit_ms)
        epochs = -(-self._epochs // _PARTS)
        seed = self._seed + len(self.steps)  # other orders of the images
        rate = min(self._rate, RATE_FROM_CHECKPOINT)
        return self._search(epochs, rate, seed, after_epochs=self._epochs)

    def _search(
        self, epochs: int, learning_rate: float, seed: int, after_epochs: int = 0
    ) -> Candidate:
        from lutra.supernets.single_path.training import search_training

        asked = self._asked
        self.steps += search_training(
            self._network,
            asked.train,
            asked.resolution,
            epochs,
            runtime=asked.runtime,
            pressure=asked.pressure,
            learning_rate=learning_rate,
            after_epochs=after_epochs,
            seed=seed,
            on_step=self._report.of(epochs, self._fine_tune_epochs),
        )
        row = asked.budget.kept_by(self._network)
        (candidate,) = asked.question.candidates(row[None], np.array([np.nan]))
        return candidate

    def trained(self, candidate: Candidate) -> Subnet:
        """The chosen network on its own, fine-tuned, with statistics of its own."""
        from lutra.supernets.deployment.fine_tuning import fine_tune
        from lutra.supernets.evaluation import tune_statistics

        train, resolution = self._asked.train, self._asked.resolution
        subnet = self._network.supernet.subnet(candidate.architecture)
        epochs, on_step = self._fine_tune_epochs, self._report.of(self._fine_tune_epochs, 0)
        fine_tune(subnet, train, resolution, epochs, seed=self._seed + 1, on_step=on_step)
        tune_statistics(subnet, train, resolution)
        return subnet


class _Report:
    """Tells of several trainings as of one."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step
        self._done = 0

    def of(self, epochs: int, later_epochs: int) -> Callable[[int, int], None]:
        """What is told of the steps of a training, behind which so many epochs are to come."""
        before = self._done

        def told(done: int, expected: int) -> None:
            self._done = before + done
            self._on_step(self._done, before + expected + expected * later_epochs // epochs)

        return told
