"""Top-1 of a model file, run by the runtime that it is for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lutra.errors import DataError, UsageError
from lutra.supernets.data.base import ImageSet, Split
from lutra.supernets.data.loading import load_images
from lutra.supernets.deployment.runners import ModelRunner, open_model
from lutra.supernets.evaluation import Accuracy, OnStep, top1

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class FileAccuracy:
    """A file's accuracy on a split of a folder's images, at the resolution that it takes."""

    path: Path
    precision: str
    data: str
    split: Split
    resolution: int
    accuracy: Accuracy

    @property
    def percent(self) -> float:
        """Top-1 in percent."""
        return self.accuracy.percent

    def to_json(self) -> dict[str, Any]:
        """For JSON: ``top1`` and its 95 % interval in percent, how many images of what."""
        return {
            "path": str(self.path),
            "precision": self.precision,
            "data": self.data,
            "split": self.split,
            "resolution": self.resolution,
            **self.accuracy.to_json(),
        }


def evaluate(
    path: str | Path,
    data: str | Path,
    *,
    split: Split = "test",
    limit: int | None = None,
    on_step: OnStep = lambda done, expected: None,
) -> FileAccuracy:
    """Run a model file (.onnx, .tflite, .torch) on labelled images and count right answers.

    Or one network's weights (.pth), as `fine_tune_network` writes them. ``data`` is a folder of
    images (`load_images` says of which form), ``split`` which of them, ``limit`` how many at most.
    Images are prepared as for training; int8 files get integers. ``on_step`` is told how far it is.
    Raises `ModelError` or `CheckpointError` for a file that cannot be run, `DataError` for images
    that cannot be read or do not fit it, `UsageError` for an unknown split.

    >>> found = evaluate("small.onnx", data="images", limit=20)
    >>> found.accuracy.count
    20
    """
    if split not in SPLITS:
        raise UsageError(f"unknown split '{split}'; known: {', '.join(SPLITS)}")
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} images: at least 1 is needed")
    images = load_images(data, split)
    runner = open_model(path)
    _require_fit(path, runner, images)
    accuracy = top1(runner, images, runner.form.resolution, limit=limit, on_step=on_step)
    return FileAccuracy(
        Path(path), runner.precision, str(data), split, runner.form.resolution, accuracy
    )


def _require_fit(path: str | Path, runner: ModelRunner, images: ImageSet) -> None:
    if runner.form.channels != images.channels:
        raise DataError(
            f"{images.source}: its images have {images.channels} channels;"
            f" {path} takes {runner.form.channels}"
        )
    if runner.classes != len(images.classes):
        raise DataError(
            f"{images.source}: it has {len(images.classes)} classes; {path} knows {runner.classes}"
        )
