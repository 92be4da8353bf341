"""What the worker watches of the GPU that it measures on: its clock, its state, other users."""

from __future__ import annotations

import os

from lutra.devices.worker.nvml import Gpu, NoGpu, OtherProcesses, slowed


class GpuWatch:
    """The GPU that nvidia-smi calls ``index``; make it before CUDA is used in this process.

    Raises `lutra.devices.worker.nvml.NoGpu`.
    """

    def __init__(self, index: int) -> None:
        self._gpu = Gpu(index)
        self._others = OtherProcesses(self._gpu)
        # CUDA counts cards in another order, and others may have been hidden from this process.
        uuid = self._gpu.facts()["uuid"]
        chosen_slice = os.environ.get("CUDA_VISIBLE_DEVICES", "").startswith("MIG-")
        if uuid is not None and not chosen_slice:
            os.environ["CUDA_VISIBLE_DEVICES"] = uuid

    def settled_in(self) -> None:
        """Say that this process uses the card by now: it is not one of the others."""
        self._others.note_own(os.getpid())

    def clock_mhz(self) -> float | None:
        """The clock of the card's processors now."""
        return self._gpu.clock_mhz()

    def is_lost(self, error: BaseException) -> bool:
        """Whether the error says that the card is gone."""
        return isinstance(error, NoGpu)

    def flags(self) -> list[str]:
        """What is wrong with measurements made now."""
        wrong = {
            "throttled": slowed(self._gpu.throttle_reasons()),
            "shared": bool(self._others.now()),
        }
        return [name for name, is_so in wrong.items() if is_so]
