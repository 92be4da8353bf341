"""A made-up processor: what an op takes by its nodes, with the cliffs that real ones have."""

import numpy as np

from lutra.ops import OpConfig

CLIFF = 4.0  # times: depthwise layers whose channels do not fill vectors of 16


def latency_ms(op: OpConfig) -> float:
    """Multiply-accumulates and bytes at a pace of each operation, and something per kernel."""
    graph, total = op.graph, 0.0
    for node in graph.nodes:
        target = graph.shapes[node.name]
        moved = target.elements + sum(graph.shapes[name].elements for name in node.inputs)
        macs = 0.0
        if node.has_weights:
            uses = 1 if node.op == "linear" else target.elements // target.channels
            macs = float(np.prod(graph.weight_shape(node))) * uses
        pace = {"depthwise": 4e-8, "linear": 3e-8}.get(node.op, 1e-8)
        if node.op == "depthwise" and target.channels % 16:
            pace *= CLIFF
        total += pace * macs + 2e-9 * moved + 0.001
    return total
