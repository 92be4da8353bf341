"""Search spaces: which architectures there are and which op configurations they consist of."""

from lutra.search.spaces import mbconv_spaces, resnet50d
from lutra.search.spaces.architecture import Architecture
from lutra.search.spaces.base import Gene, SearchSpace, get_space, register_space, space_names
from lutra.search.spaces.lattice import Edge, Lattice

__all__ = [
    "Architecture",
    "Edge",
    "Gene",
    "Lattice",
    "SearchSpace",
    "get_space",
    "mbconv_spaces",
    "register_space",
    "resnet50d",
    "space_names",
]
