"""The batches of an epoch, made ahead of time by threads where there are some."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from lutra.errors import DataError
from lutra.spaces.base import SearchSpace
from lutra.supernets.data.base import ImageSet
from lutra.supernets.training.chance import Use, generator, order_of_epoch
from lutra.supernets.training.losses import Batch

_AHEAD = 2  # batches per thread


class Batches:
    """A training's batches by epoch and step, this process's share of each.

    An image's augmentation depends on its place in the step, on nothing before.
    """

    def __init__(
        self,
        images: ImageSet,
        space: SearchSpace,
        *,
        batch: int,
        seed: int,
        rank: int = 0,
        processes: int = 1,
        workers: int = 0,
    ) -> None:
        """Raises `DataError` where there are fewer images than a step takes."""
        if len(images) < batch:
            raise DataError(
                f"{images.source}: {len(images)} images for training are fewer than the {batch}"
                " of a step: give a smaller --batch"
            )
        self._images = images
        self._resolutions = space.resolutions
        self._batch = batch
        self._share = batch // processes
        self._seed = seed
        self._rank = rank
        self._workers = workers
        self.steps = len(images) // batch

    def resolution(self, epoch: int, step: int) -> int:
        """The resolution of a step, the same in all processes."""
        rng = generator(self._seed, Use.NETWORKS, epoch, step)
        return int(rng.choice(self._resolutions))

    def of_epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from a step on. Raises `DataError` for an unreadable image."""
        order = order_of_epoch(self._seed, epoch, len(self._images))

        def made(step: int) -> Batch:
            start = step * self._batch + self._rank * self._share
            rng = generator(self._seed, Use.AUGMENTATION, epoch, step, self._rank)
            indices = order[start : start + self._share]
            return Batch(*self._images.batch(indices, self.resolution(epoch, step), rng))

        steps = range(first, self.steps)
        if not self._workers:
            yield from map(made, steps)
            return
        with ThreadPoolExecutor(self._workers) as pool:
            waiting: deque[Future[Batch]] = deque()
            try:
                for step in steps:
                    waiting.append(pool.submit(made, step))
                    if len(waiting) > _AHEAD * self._workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
