"""The table's latency of a superkernel network, as a function of its gates that has gradients."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.spaces.mbconv_spaces import MBConvSpace
from lutra.supernets.single_path.gates import Gates, probabilities

_STATIC_OPS_BEFORE = 2


class Runtime:
    """``runtime(gates)`` in ms: each choice's price times its probability, summed over blocks.

    Where gates are 0 and 1 it is what the table predicts. Of a latency that is the larger of two
    forms it is the larger. Raises `MissingOpError` where the table lacks an op of the resolution.
    """

    def __init__(self, predictor: EfficiencyPredictor, space: MBConvSpace, resolution: int) -> None:
        priced = predictor.space  # the same rows; ops are its own where the table was imported
        predictor.require_ops(priced.op_indices_at([resolution]))
        kernels, expansions = (len(space.genes[gene].choices) for gene in (0, space.blocks))
        rows = np.zeros((kernels * expansions, len(space.genes)), dtype=np.int16)
        rows[:, : space.blocks] = np.repeat(np.arange(kernels), expansions)[:, None]
        rows[:, space.blocks : 2 * space.blocks] = np.tile(np.arange(expansions), kernels)[:, None]
        rows[:, 2 * space.blocks : -1] = space.choice_counts[2 * space.blocks : -1] - 1
        rows[:, -1] = space.resolution_indices([resolution])[0]
        indices = priced.op_indices(rows)
        elastic = slice(_STATIC_OPS_BEFORE, _STATIC_OPS_BEFORE + space.blocks)
        static = np.delete(indices[0], np.r_[elastic])
        forms = predictor.latency.forms
        # (forms, blocks, kernels, expansions)
        prices = np.stack([form.prices[indices[:, elastic].T] for form in forms])
        self._prices = torch.from_numpy(prices.reshape(*prices.shape[:2], kernels, expansions))
        constants = [form.constant + form.prices[static].sum() for form in forms]
        self._constants = torch.tensor(constants, dtype=torch.float64)

    def __call__(self, gates: Gates) -> Tensor:
        """A scalar in ms, float64."""
        device = gates.used.device
        kernels, expansions = (
            probabilities(each.double()) for each in (gates.kernels, gates.expansions)
        )
        by_form = torch.einsum(
            "fbke,bk,be,b->f",
            self._prices.to(device),
            kernels,
            expansions,
            gates.used.double(),
        )
        return (by_form + self._constants.to(device)).max()
