"""Our int8 ONNX files against those of onnxruntime's own tool: latency, accuracy, time to make.

    python benchmarks/onnx_int8.py

Both are made of the same fp32 file and calibration inputs and run in one process pinned to one
core, interleaved in random order with the fp32 file. A latency is the median over rounds of each
round's 20th percentile, the ratio the median of the rounds' ratios: this machine drifts between
rounds. SQNR is against the torch module, with the kernels that were timed; without VNNI
instructions onnxruntime's saturate, which costs about 10 dB whoever made the file.
"""

from __future__ import annotations

import logging
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from lutra.emitters.onnx import emit_onnx
from lutra.emitters.quantization import activation_ranges, calibration_inputs
from lutra.emitters.torch import torch_module
from lutra.ops import Bottleneck, Graph, MBConv, OpConfig, Shape, Weights, seeded_weights

BLOCKS: dict[str, OpConfig] = {
    "56x56x24 k3 relu": MBConv(Shape(56, 56, 24), 24, 96, 3, 1, "relu", False, True),
    "56x56x24 k3 h-swish SE": MBConv(Shape(56, 56, 24), 24, 96, 3, 1, "h_swish", True, True),
    "14x14x112 k5 relu6": MBConv(Shape(14, 14, 112), 112, 672, 5, 1, "relu6", False, True),
    "14x14x512 bottleneck": Bottleneck(Shape(14, 14, 512), 512, 128, 3, 1, "relu", False),
}
ROUNDS = 50
ROUND_SECONDS = 0.02

Features = npt.NDArray[np.float32]
Times = npt.NDArray[np.float64]


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, graph: Graph) -> None:
        self._features = iter(calibration_inputs(graph))

    def get_next(self) -> dict[str, Features] | None:
        features = next(self._features, None)
        return None if features is None else {"input": features[None]}


def onnxruntime_int8(graph: Graph, weights: Weights, folder: Path) -> bytes:
    path = folder / "quantized.onnx"
    quantize_static(
        onnx.load_from_string(emit_onnx(graph, weights)),
        path,
        Reader(graph),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return path.read_bytes()


def milliseconds(work: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return 1e3 * median(times)


def round_percentile(session: Any, feed: dict[str, Features]) -> float:
    """The 20th percentile of the runs of one round, ms."""
    times: list[float] = []
    until = time.perf_counter() + ROUND_SECONDS
    while time.perf_counter() < until:
        started = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - started)
    return float(1e3 * np.percentile(times, 20))


def latencies(sessions: dict[str, Any], feed: dict[str, Features]) -> dict[str, Times]:
    """Each round's latency of every session, ms."""
    rounds: dict[str, list[float]] = {name: [] for name in sessions}
    for session in sessions.values():
        round_percentile(session, feed)
    for _ in range(ROUNDS):
        for name in random.sample(list(sessions), len(sessions)):
            rounds[name].append(round_percentile(sessions[name], feed))
    return {name: np.array(values) for name, values in rounds.items()}


def sqnr(reference: Features, got: Features) -> float:
    return float(10 * np.log10(np.square(reference).sum() / np.square(reference - got).sum()))


def report(name: str, graph: Graph, folder: Path) -> None:
    weights = seeded_weights(graph)
    ranges = activation_ranges(graph, weights)
    models = {
        "ours": emit_onnx(graph, weights, precision="int8", ranges=ranges),
        "theirs": onnxruntime_int8(graph, weights, folder),
        "fp32": emit_onnx(graph, weights),
    }
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {
        kind: onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for kind, model in models.items()
    }
    shape = graph.input_shape
    size = (1, shape.channels, shape.height, shape.width)
    features = np.random.default_rng(1).standard_normal(size, dtype=np.float32)
    with torch.inference_mode():
        reference = torch_module(graph, weights)(torch.from_numpy(features)).numpy()
    feed = {"input": features}
    noise = {kind: sqnr(reference, item.run(None, feed)[0]) for kind, item in sessions.items()}
    times = latencies(sessions, feed)
    emission = milliseconds(
        lambda: emit_onnx(graph, weights, precision="int8", ranges=ranges), repeats=20
    )
    calibration = milliseconds(lambda: activation_ranges(graph, weights), repeats=5)
    tool = milliseconds(lambda: onnxruntime_int8(graph, weights, folder), repeats=3)
    middle = {kind: np.median(values) for kind, values in times.items()}
    print(
        f"{name:23} {middle['ours']:6.3f} {middle['theirs']:6.3f}"
        f" {np.median(times['ours'] / times['theirs']):6.3f} {middle['fp32']:6.3f}"
        f"   {noise['ours']:5.2f} {noise['theirs']:5.2f}"
        f"   {emission:6.2f} {calibration:6.1f} {tool:6.0f}"
    )


def main() -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # advice to prepare the fp32 file, which changes nothing here
    print(f"{'':23} latency, ms                   SQNR, dB      time to make, ms")
    print(
        f"{'':23} {'ours':>6} {'theirs':>6} {'ratio':>6} {'fp32':>6}"
        f"   {'ours':>5} {'theirs':>5}   {'ours':>6} {'+calib':>6} {'theirs':>6}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, op in BLOCKS.items():
            report(name, op.graph, Path(folder))


if __name__ == "__main__":
    main()
