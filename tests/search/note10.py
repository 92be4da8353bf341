"""The published tables of a Galaxy Note10 and OFA's accuracy predictor, where they are at hand."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np

from lutra.ops import Conv, Linear, MBConv, OpConfig, Pool
from lutra.predictors.accuracy import load_accuracy
from lutra.predictors.efficiency.costs import OpCost
from lutra.search.constraints import Limit
from lutra.search.problem import Problem
from lutra.spaces import get_space

SPACE = "ofa-mbv3-w1.2"
TABLES = "ofa_note10_tables"
PREDICTOR = "ofa_accuracy_predictor"
ALL_RESOLUTIONS = tuple(range(160, 225, 4))
"""Those that there are tables of."""
RESOLUTIONS = tuple(range(160, 225, 16))
"""Those that the predictor knows too."""
BEST_KNOWN = {25.0: 82.2455, 15.0: 78.7999, 13.5: 77.9318, 12.0: 76.9648}
"""The highest accuracy known, in percent, by budget in ms.

Found at each resolution by six evolutions of 1,500 generations, each followed by complete two-gene
neighbourhoods of its five best.
"""


def published_name(op: OpConfig) -> str:
    """What OFA's tables call an op of MobileNetV3."""
    shapes = f"-input:{op.input_shape}-output:{op.output_shape}"
    match op:
        case MBConv():
            return (
                f"expanded_conv{shapes}-expand:{op.mid_channels}-kernel:{op.kernel}"
                f"-stride:{op.stride}-idskip:{int(op.residual)}-se:{int(op.se)}"
                f"-hs:{int(op.activation == 'h_swish')}"
            )
        case Pool():
            return f"AvgPool2D{shapes}"
        case Linear():
            return f"Logits{shapes.replace('output:1x1x', 'output:')}"
        case Conv(bias="none"):
            return f"Conv_2{shapes}"
        case Conv(stride=2):
            return f"Conv-input{shapes.removeprefix('-input')}"
        case _:
            return f"Conv_1{shapes}"


@cache
def published_means(folder: Path) -> dict[str, float]:
    """Milliseconds by OFA's name of an op; of those in several tables, the first's."""
    means: dict[str, float] = {}
    for path in sorted(folder.glob("*_lookup_table.yaml")):
        found = re.findall(r"^(\S+):\n  count: \d+\n  mean: (\S+)", path.read_text(), re.MULTILINE)
        for name, mean in found:
            means.setdefault(name, float(mean))
    return means


@cache
def latency(folder: Path) -> OpCost:
    """Milliseconds of every op at the tables' resolutions, NaN at the others."""
    space, means = get_space(SPACE), published_means(folder)
    prices = np.array([means.get(published_name(op), np.nan) for op in space.ops])
    return OpCost("latency", "ms", space, prices)


def problem(tables: Path, predictor: Path, budget_ms: float) -> Problem:
    """The most accurate network within ``budget_ms``, over the five common resolutions."""
    cost = latency(tables)
    accuracy = load_accuracy(predictor / "acc_predictor.pth", SPACE)
    return Problem(cost.space, accuracy, (Limit(cost, budget_ms),), RESOLUTIONS)
