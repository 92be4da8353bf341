"""A space of small networks, and options of a short training."""

from typing import Any

from lutra.spaces.mbconv_spaces import Family, Head, MBConvSpace, Stage
from lutra.spaces.variant import Variant

CLASSES, SIZE = 4, 16
_FAMILY = Family(
    first_channels=8,
    first_activation="h_swish",
    block0_channels=8,
    block0_activation="relu",
    block0_residual=True,
    stages=(
        Stage(8, 1, "relu", False, depths=(1, 2)),
        Stage(16, 2, "h_swish", True, depths=(1, 2)),
    ),
    head=Head(32, 48, "h_swish"),
)
SPACE = MBConvSpace("tiny", _FAMILY, Variant(classes=CLASSES, channels=1, r=(12, 16, 4)))
OPTIONS: dict[str, Any] = {"method": "sandwich", "epochs": 3, "batch": 24, "learning_rate": 0.05}
