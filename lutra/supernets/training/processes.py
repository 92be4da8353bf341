"""The processes of one training: those that torchrun started, or this one alone.

A step's gradients, the sums over its networks, are averaged over the processes once, after the
last backward pass.
"""

# docs/decisions.md: One reduction per step

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from lutra.errors import UsageError


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is; the first one writes."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes and reports."""
        return self.rank == 0

    def share_of(self, batch: int) -> int:
        """The images of a step that each process takes; raises `UsageError` for an uneven share."""
        if batch % self.count:
            raise UsageError(
                f"a batch of {batch} images does not divide among {self.count} processes"
            )
        return batch // self.count

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make the gradients those of the whole batch, where each has its own share's mean."""
        if self.count == 1:
            return
        gradients = [each.grad for each in parameters if each.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.count
        sizes = [gradient.numel() for gradient in gradients]
        averages = torch.split(flat, sizes)
        for gradient, average in zip(gradients, averages, strict=True):
            gradient.copy_(average.view_as(gradient))

    @torch.no_grad()
    def average(self, value: Tensor) -> Tensor:
        """The mean of a number over the processes."""
        if self.count > 1:
            value = value.clone()
            distributed.all_reduce(value)
            value /= self.count
        return value

    @torch.no_grad()
    def take_from_first(self, network: nn.Module) -> None:
        """Give all processes the first one's batch normalisation statistics.

        Training itself does not depend on them: each normalises by its own share of the batch.
        """
        if self.count > 1:
            for buffer in network.buffers():
                distributed.broadcast(buffer, 0)

    def from_first(self, data: bytes | None) -> bytes | None:
        """What the first process has; hosts need not share a file system."""
        if self.count == 1:
            return data
        held = [data]
        distributed.broadcast_object_list(held, 0)
        return held[0]


def is_first_process() -> bool:
    """Whether this is torchrun's first process, or was not started by it."""
    return not _started_together() or os.environ["RANK"] == "0"


def _started_together() -> bool:
    return "WORLD_SIZE" in os.environ and "RANK" in os.environ


@contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """The processes that torchrun started together with this one, or that have joined already."""
    if distributed.is_available() and distributed.is_initialized():
        yield Processes(distributed.get_rank(), distributed.get_world_size())
        return
    if not _started_together():
        yield Processes()
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def device_of(name: str) -> torch.device:
    """The device to train on: ``cpu`` or ``cuda:N``; with torchrun each process has the next GPU.

    Raises `UsageError` for one that is not there.
    """
    kind, _, number = name.partition(":")
    if name == "cpu":
        return torch.device("cpu")
    if kind != "cuda" or (number and not number.isdecimal()):
        raise UsageError(f"cannot train on device '{name:.40}'; write cpu or cuda:0")
    index = int(number or 0) + int(os.environ.get("LOCAL_RANK", 0))
    if not torch.cuda.is_available() or index >= torch.cuda.device_count():
        raise UsageError(
            f"there is no {kind}:{index}: this PyTorch ({torch.__version__}) sees"
            f" {torch.cuda.device_count()} NVIDIA GPUs"
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)
