"""Which networks exist: search spaces, their architectures and the ops they need."""

from lutra.spaces import graph_widths, mbconv_spaces, resnet50d, widths
from lutra.spaces.architecture import Architecture
from lutra.spaces.base import Gene, Indices, Rows, SearchSpace
from lutra.spaces.lattice import NO_OP, Edge, Lattice, LatticeBuilder
from lutra.spaces.registry import (
    DEFAULT_SPACE,
    get_space,
    parse_architecture,
    register_space,
    space_names,
)
from lutra.spaces.sampling import sample_networks

__all__ = [
    "DEFAULT_SPACE",
    "NO_OP",
    "Architecture",
    "Edge",
    "Gene",
    "Indices",
    "Lattice",
    "LatticeBuilder",
    "Rows",
    "SearchSpace",
    "get_space",
    "graph_widths",
    "mbconv_spaces",
    "parse_architecture",
    "register_space",
    "resnet50d",
    "sample_networks",
    "space_names",
    "widths",
]
