"""Graph to torch: a module, which the other emitters are held to, and a model file of it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from lutra.devices.worker.runtimes.torch_graph import (
    MAGIC,
    OPS,
    VERSION,
    WEIGHTLESS,
    GraphModule,
)
from lutra.ops import Graph, Weights

__all__ = ["OPS", "WEIGHTLESS", "emit_torch", "torch_module"]

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def emit_torch(
    graph: Graph,
    weights: Weights,
    *,
    precision: str = "fp32",
    batch: int = 1,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """The graph as a torch model file (`lutra.devices.worker.runtimes.torch_graph` reads it).

    ``precision`` is ``fp32``, ``fp16`` or ``bf16``: the type of weights, inputs and arithmetic.
    Raises KeyError for another one, or for a weight that is missing.
    """
    file = io.BytesIO()
    document = _document(graph, weights, _DTYPES[precision], batch)
    torch.save({**document, "metadata": dict(metadata or {})}, file)
    return file.getvalue()


def torch_module(graph: Graph, weights: Weights) -> GraphModule:
    """The graph as a fp32 torch module in inference mode."""
    return GraphModule(_document(graph, weights, torch.float32, 1)).eval()


def _document(graph: Graph, weights: Weights, dtype: torch.dtype, batch: int) -> dict[str, Any]:
    shape = graph.input_shape
    return {
        MAGIC: VERSION,
        "input": graph.input,
        "input_shape": [batch, shape.channels, shape.height, shape.width],
        "output": graph.output,
        "nodes": [asdict(node) for node in graph.nodes],
        "weights": {
            name: torch.tensor(weights[name], dtype=dtype) for name, _ in graph.weight_shapes()
        },
    }
