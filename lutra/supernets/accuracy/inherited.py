"""Top-1 of one subnet after another, on images that are made ready once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lutra.errors import DataError
from lutra.predictors.accuracy.samples import SampleSource
from lutra.spaces.architecture import Architecture
from lutra.spaces.base import SearchSpace
from lutra.supernets.accuracy.kept_images import KeptImages
from lutra.supernets.checkpoints.checkpoint import Checkpoint, read_checkpoint
from lutra.supernets.checkpoints.network import load_subnets
from lutra.supernets.data.base import ImageSet, shuffled
from lutra.supernets.data.loading import load_images
from lutra.supernets.elastic.supernet import Supernet
from lutra.supernets.evaluation import ENOUGH_IMAGES, Accuracy, inherited_top1
from lutra.supernets.pruning.removal import Criterion, NarrowerNetworks


class InheritedAccuracy:
    """Measures subnets of a checkpoint's supernet, or narrower forms of a network, untrained.

    Each is extracted, its batch normalisations are re-estimated on ``calibration_images`` training
    images, and it is evaluated on the validation images: all, or ``images`` of them by chance.
    ``source`` says what is measured.
    """

    def __init__(
        self,
        networks: Supernet | NarrowerNetworks,
        digest: str,
        data: str | Path,
        *,
        images: int | None = None,
        calibration_images: int = ENOUGH_IMAGES,
    ) -> None:
        """``digest`` is that of the networks' weights; raises `DataError`."""
        self.networks = networks
        self.space: SearchSpace = networks.space
        self._train = _some(load_images(data, "train"), calibration_images)
        self._validation = _some(load_images(data, "validation"), images)
        for part in (self._train, self._validation):
            part.require_fit(self.space)
        self.source = SampleSource(
            space=self.space.name,
            checkpoint=digest,
            data=Path(data).resolve().name,
            labels=self._validation.identity,
            images=len(self._validation),
            calibration_images=len(self._train),
            criterion=networks.criterion if isinstance(networks, NarrowerNetworks) else None,
        )

    @classmethod
    def read(
        cls,
        checkpoint: str | Path | Checkpoint,
        data: str | Path,
        *,
        space: str | SearchSpace | None = None,
        images: int | None = None,
        calibration_images: int = ENOUGH_IMAGES,
        criterion: Criterion = "independent",
    ) -> InheritedAccuracy:
        """Of a checkpoint; ``criterion`` is what channels of narrower forms are removed by.

        Raises `CheckpointError`, `UsageError` and `DataError` for what does not fit together.
        """
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = read_checkpoint(checkpoint)
        networks = load_subnets(checkpoint, space, criterion)
        return cls(
            networks,
            checkpoint.digest,
            data,
            images=images,
            calibration_images=calibration_images,
        )

    def of(self, architecture: Architecture) -> Accuracy:
        """Top-1 on the validation images at the architecture's resolution."""
        train, validation = self._train, self._validation
        return inherited_top1(
            self.networks, architecture, train, validation, calibration_images=len(train)
        )


def _some(images: ImageSet, count: int | None) -> KeptImages:
    if count is not None and count < 1:
        raise DataError(f"{images.source}: at least one image must be used, not {count}")
    chosen = np.sort(shuffled(len(images))[:count])
    return KeptImages(images, chosen)
