"""Images that are made ready once and then used by many networks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lutra.supernets.data.base import ImageSet

MOST_BYTES = 2 << 30
_CHUNK = 256
_BYTES = 4


class KeptImages(ImageSet):
    """Some images of a set, which stay in memory as networks take them, at each resolution.

    Where all would need more than ``most_bytes``, the resolution that was used longest ago gives
    way; a resolution that alone needs more is made ready anew each time.
    """

    def __init__(
        self, images: ImageSet, chosen: npt.NDArray[np.int64], most_bytes: int = MOST_BYTES
    ) -> None:
        self.source = images.source
        self.channels = images.channels
        self.classes = images.classes
        self.labels = images.labels[chosen]
        self.augmentation = images.augmentation
        self._images = images
        self._chosen = chosen
        self._most_bytes = most_bytes
        self._kept: dict[int, Tensor] = {}  # the one used last stands last

    def pixels(
        self, indices: npt.NDArray[np.int64], resolution: int, rng: np.random.Generator | None
    ) -> Tensor:
        return self._images.pixels(self._chosen[indices], resolution, rng)

    def batch(
        self,
        indices: npt.NDArray[np.int64],
        resolution: int,
        rng: np.random.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        if rng is not None or self._size(resolution) > self._most_bytes:
            return self._images.batch(self._chosen[indices], resolution, rng)
        ready = self._ready(resolution)
        labels = torch.from_numpy(self.labels[indices])
        if len(indices) and indices[-1] - indices[0] + 1 == len(indices):
            consecutive = np.array_equal(indices, np.arange(indices[0], indices[-1] + 1))
            if consecutive:  # no copy
                return ready[int(indices[0]) : int(indices[-1]) + 1], labels
        return ready[torch.from_numpy(indices)], labels

    def _size(self, resolution: int) -> int:
        return len(self.labels) * self.channels * resolution**2 * _BYTES

    def _ready(self, resolution: int) -> Tensor:
        ready = self._kept.pop(resolution, None)
        if ready is None:
            while self._kept and sum(map(self._size, self._kept)) > (
                self._most_bytes - self._size(resolution)
            ):
                del self._kept[next(iter(self._kept))]
            parts = [
                self._images.batch(self._chosen[start : start + _CHUNK], resolution)[0]
                for start in range(0, len(self._chosen), _CHUNK)
            ]
            ready = torch.cat(parts)
        self._kept[resolution] = ready
        return ready
