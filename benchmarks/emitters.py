"""How many model files a second each emitter makes, on one core: the MBConv blocks of a space.

    python benchmarks/emitters.py

The baseline is what the field usually does in the same run: ``torch.onnx.export`` of the same
blocks (TorchScript-based, the faster of its two exporters), on a few of them.
"""

from __future__ import annotations

import io
import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

from lutra.emitters.emission import FORMATS
from lutra.emitters.onnx import emit_onnx
from lutra.emitters.quantization import activation_ranges
from lutra.emitters.tflite import emit_tflite
from lutra.emitters.torch import emit_torch, torch_module
from lutra.ops import MBConv, seeded_weights
from lutra.spaces import get_space

ROUNDS = 3
BASELINE_BLOCKS = 10
EMITTERS: dict[str, Callable[..., bytes]] = {
    "onnx": emit_onnx,
    "tflite": emit_tflite,
    "torch": emit_torch,
}


def median_ms(run: Callable[[Any], object], items: list[Any]) -> float:
    """Milliseconds per item: the median over rounds."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for item in items:
            run(item)
        rounds.append(1e3 * (time.perf_counter() - started) / len(items))
    return statistics.median(rounds)


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    torch.set_num_threads(1)
    ops = [op for op in get_space("ofa-mbv3-w1.0").ops_at([224]) if isinstance(op, MBConv)]
    blocks = [(op.graph, seeded_weights(op.graph)) for op in ops]
    ranges = [activation_ranges(*block) for block in blocks]
    print(f"{len(blocks)} MobileNetV3 blocks, one core")
    for name, precisions in FORMATS.items():
        emit = EMITTERS[name]
        for precision in precisions:

            def run(index: int, emit: Any = emit, precision: str = precision) -> None:
                known = {"ranges": ranges[index]} if precision == "int8" else {}
                emit(*blocks[index], precision=precision, **known)

            taken = median_ms(run, list(range(len(blocks))))
            print(
                f"{name:7} {precision:5} {taken:6.2f} ms per block  {1e3 / taken:5.0f} per second"
            )
    taken = median_ms(lambda block: activation_ranges(*block), blocks)
    print(f"calibration   {taken:6.2f} ms per block (once for int8)")
    taken = median_ms(_torch_onnx_export, blocks[:BASELINE_BLOCKS])
    print(f"torch.onnx.export (baseline) {taken:6.2f} ms per block  {1e3 / taken:5.0f} per second")


def _torch_onnx_export(block: Any) -> None:
    module = torch_module(*block)
    features = torch.zeros(module.input_shape)
    file: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (features,), file, dynamo=False)


if __name__ == "__main__":
    main()
