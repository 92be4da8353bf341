"""What is measured: ops, their keys, and the graphs they expand to."""

from lutra.ops.bottleneck import Bottleneck
from lutra.ops.config import OpConfig, chain_graph, kinds, parse_key
from lutra.ops.conv import Conv
from lutra.ops.graph import Graph, GraphBuilder, Node, Weights
from lutra.ops.linear import Linear
from lutra.ops.mbconv import MBConv
from lutra.ops.pool import Pool
from lutra.ops.shapes import Shape, make_divisible, parse_shape
from lutra.ops.weights import seeded_weights

__all__ = [
    "Bottleneck",
    "Conv",
    "Graph",
    "GraphBuilder",
    "Linear",
    "MBConv",
    "Node",
    "OpConfig",
    "Pool",
    "Shape",
    "Weights",
    "chain_graph",
    "kinds",
    "make_divisible",
    "parse_key",
    "parse_shape",
    "seeded_weights",
]
