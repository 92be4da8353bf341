"""Tests over all spaces: one of each family in the suite, its other members with what is slow.

Spaces of ImageNet's resolutions, that is: small ones are emitted in tests/supernets/deployment.
"""

import pytest

from lutra.spaces import get_space, space_names

_ONE_OF_EACH = ("ofa-mbv3-w1.0", "ofa-proxyless-w1.0", "ofa-resnet50d")

every_space = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in _ONE_OF_EACH else pytest.mark.slow)
        for name in space_names()
        if 128 in get_space(name).resolutions
    ],
)
