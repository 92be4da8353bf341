"""An int8 file beside the same network in fp32 and in int8 by every rule."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from lutra.emitters.emission import Emission
from lutra.emitters.export import write_model
from lutra.spaces import Architecture
from lutra.supernets.data.base import Split
from lutra.supernets.deployment.file_accuracy import evaluate
from lutra.supernets.deployment.trained import Training, filled, prepared
from lutra.supernets.evaluation import Accuracy, OnStep
from lutra.supernets.quantization.rules import RULES, RangeRule

FP32 = "fp32"


class Latency(NamedTuple):
    """What a file takes, and the 95 % interval of that."""

    latency_ms: float
    ci_low_ms: float
    ci_high_ms: float


Timed = Callable[[Sequence[Path]], Sequence[Latency]]
"""Measures files side by side."""


@dataclass(frozen=True)
class Compared:
    """A file: how its ranges came to be (``fp32``: it has none), how right and how large it is.

    And what it takes, where that was measured.
    """

    ranges: str
    accuracies: Mapping[Split, Accuracy]
    file_bytes: int
    latency: Latency | None = None

    def cells(self) -> list[str]:
        """For a table: ranges, top-1 in percent by split, bytes, latency and its interval in ms."""
        percents = [f"{accuracy.percent:.2f}" for accuracy in self.accuracies.values()]
        timed = [f"{value:.4g}" for value in self.latency or ()]
        return [self.ranges, *percents, str(self.file_bytes), *timed]

    def to_json(self) -> dict[str, Any]:
        """For JSON; percentages."""
        by_split: dict[str, Any] = {
            split: found.to_json() for split, found in self.accuracies.items()
        }
        timed = {} if self.latency is None else self.latency._asdict()
        return {"ranges": self.ranges, **by_split, "bytes": self.file_bytes, **timed}


def compared(
    path: str | Path,
    checkpoint: str | Path,
    data: str | Path,
    architecture: Architecture | None = None,
    *,
    splits: Sequence[Split] = ("validation",),
    limit: int | None = None,
    timed: Timed | None = None,
    on_step: OnStep = lambda done, expected: None,
) -> list[Compared]:
    """Fp32, post-training int8 by each rule, and the int8 file at ``path``, run by its runtime.

    The others are made of the same ``checkpoint``, ``data`` and ``architecture`` as by `quantize`.
    ``limit`` is how many images of a split at most; ``timed`` measures all files, where that is
    wanted; ``on_step`` is told files done and expected. Raises as `quantize` and `evaluate` do.
    """
    path = Path(path)
    format = path.suffix.lower()[1:]
    training = Training(checkpoint, data)
    rows = []
    with prepared(architecture, training) as found, tempfile.TemporaryDirectory() as folder:
        files = {path.name: path}
        for rule in (None, *map(RangeRule, RULES)):
            emission = Emission(format, FP32 if rule is None else "int8")
            filling = filled(found, replace(training, ranges=rule), emission)
            name = FP32 if rule is None else str(rule)
            files[name] = Path(folder) / f"{len(files)}-{name.replace(' ', '-')}.{format}"
            write_model(found.architecture, files[name], emission, filling=filling)
        for done, (name, file) in enumerate(files.items()):
            on_step(done, len(files))
            accuracies = {
                split: evaluate(file, data, split=split, limit=limit).accuracy for split in splits
            }
            rows.append(Compared(name, accuracies, file.stat().st_size))
        if timed is not None:
            latencies = timed(list(files.values()))
            rows = [replace(row, latency=each) for row, each in zip(rows, latencies, strict=True)]
    return rows[1:] + rows[:1]
