"""An int8 file beside the same network in fp32 and in int8 by every rule."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lutra.emitters.emission import Emission
from lutra.emitters.export import write_model
from lutra.spaces import Architecture
from lutra.supernets.data.base import Split
from lutra.supernets.deployment.file_accuracy import evaluate
from lutra.supernets.deployment.trained import Training, filled, prepared
from lutra.supernets.evaluation import Accuracy, OnStep
from lutra.supernets.quantization.rules import RULES, RangeRule

FP32 = "fp32"


@dataclass(frozen=True)
class Compared:
    """A file: how its ranges came to be (``fp32``: it has none), how right and how large it is."""

    ranges: str
    accuracies: Mapping[Split, Accuracy]
    file_bytes: int

    def cells(self) -> list[str]:
        """For a table: ranges, top-1 in percent by split, bytes."""
        percents = [f"{accuracy.percent:.2f}" for accuracy in self.accuracies.values()]
        return [self.ranges, *percents, str(self.file_bytes)]

    def to_json(self) -> dict[str, Any]:
        """For JSON; percentages."""
        by_split: dict[str, Any] = {
            split: found.to_json() for split, found in self.accuracies.items()
        }
        return {"ranges": self.ranges, **by_split, "bytes": self.file_bytes}


def compared(
    path: str | Path,
    checkpoint: str | Path,
    data: str | Path,
    architecture: Architecture | None = None,
    *,
    splits: Sequence[Split] = ("validation",),
    limit: int | None = None,
    on_step: OnStep = lambda done, expected: None,
) -> list[Compared]:
    """Fp32, post-training int8 by each rule, and the int8 file at ``path``, run by its runtime.

    The others are made of the same ``checkpoint``, ``data`` and ``architecture`` as by `quantize`.
    ``limit`` is how many images of a split at most; ``on_step`` is told files done and
    expected. Raises as `quantize` and `evaluate` do.
    """
    path = Path(path)
    format = path.suffix.lower()[1:]
    training = Training(checkpoint, data)
    found = prepared(architecture, training)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = {path.name: path}
        for rule in (None, *map(RangeRule, RULES)):
            emission = Emission(format, FP32 if rule is None else "int8")
            filling = filled(found, replace(training, ranges=rule), emission)
            name = FP32 if rule is None else str(rule)
            files[name] = Path(folder) / f"{len(files)}.{format}"
            write_model(found.architecture, files[name], emission, filling=filling)
        for done, (name, file) in enumerate(files.items()):
            on_step(done, len(files))
            accuracies = {
                split: evaluate(file, data, split=split, limit=limit).accuracy for split in splits
            }
            rows.append(Compared(name, accuracies, file.stat().st_size))
    return rows[1:] + rows[:1]
