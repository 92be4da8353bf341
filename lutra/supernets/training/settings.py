"""What a training is, in plain data: its checkpoints say it, and going on must agree with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from lutra.errors import UsageError

PRECISIONS = ("fp32", "bf16", "fp16")
# A training may go on with another learning rate: one that gave no numbers was too high. How
# feature maps are kept changes no result.
_MAY_CHANGE = {"learning_rate", "recompute"}


@dataclass(frozen=True)
class Settings:
    """``batch`` is of all processes together, ``learning_rate`` the first phase's peak with it.

    ``accumulate`` is how many parts a process takes its images of a step in.
    ``data`` tells one set of training images from another, wherever it lies.
    """

    space: str
    data: str
    method: str
    epochs: int
    batch: int
    learning_rate: float
    seed: int
    precision: str
    augmentation: str
    processes: int
    recompute: bool
    accumulate: int = 1

    def to_json(self) -> dict[str, Any]:
        """Names and values."""
        return asdict(self)

    def require_same(self, other: Mapping[str, Any], source: str) -> None:
        """Raise `UsageError` where a checkpoint's settings are others.

        What checkpoints of before do not say was as the defaults are.
        """
        for field in fields(self):
            default = None if field.default is MISSING else field.default
            own, theirs = getattr(self, field.name), other.get(field.name, default)
            if field.name not in _MAY_CHANGE and own != theirs:
                raise UsageError(
                    f"{source} is of a training with {field.name} {theirs!s:.80}, not {own}: name"
                    " another output folder, or remove this one to begin anew"
                )
