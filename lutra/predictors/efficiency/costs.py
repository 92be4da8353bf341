"""Costs that add up over a network's ops: a table's latency, MACs, parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from lutra.errors import MissingOpError, UsageError
from lutra.ops import OpConfig
from lutra.spaces import Rows, SearchSpace

_CHUNK_ROWS = 8192  # indices and prices of one chunk stay in the processor's cache


@dataclass(frozen=True, eq=False)
# docs/decisions.md: Additive over ops
class OpCost:
    """``constant`` plus the sum of one price per op of the network.

    ``prices`` are float64 (ops of the space,), in ``unit`` ('ms', 'MACs'); NaN where unknown.
    ``name`` is what messages call it: 'latency', 'macs'. Raises `ValueError` when the prices are
    not of the space or infinite.
    """

    name: str
    unit: str
    space: SearchSpace
    prices: npt.NDArray[np.float64]
    constant: float = 0.0

    def __post_init__(self) -> None:
        prices = np.array(self.prices, dtype=np.float64)
        if prices.shape != (len(self.space.ops),):
            raise ValueError(f"{self.name}: {prices.shape} prices for {len(self.space.ops)} ops")
        if np.isinf(prices).any() or not np.isfinite(self.constant):
            raise ValueError(f"{self.name}: prices must be finite, or NaN where unknown")
        prices.setflags(write=False)
        object.__setattr__(self, "prices", prices)

    def of(self, rows: Rows) -> npt.NDArray[np.float64]:
        """(N, genes) -> (N,): each architecture's cost; NaN when one of its ops has no price."""
        return total_costs([self], rows)[:, 0]

    def cheapest(self, resolutions: Sequence[int]) -> tuple[float, npt.NDArray[np.int16]]:
        """The exact lowest cost of any architecture at these resolutions, and its row.

        Architectures with an unpriced op do not take part. Raises `MissingOpError` when that
        leaves none.
        """
        return self._extreme(resolutions, self.prices)

    def dearest(self, resolutions: Sequence[int]) -> tuple[float, npt.NDArray[np.int16]]:
        """The exact highest cost and its row; otherwise like `cheapest`."""
        return self._extreme(resolutions, -self.prices)

    def _extreme(
        self, resolutions: Sequence[int], prices: npt.NDArray[np.float64]
    ) -> tuple[float, npt.NDArray[np.int16]]:
        if not resolutions:
            raise UsageError(f"{self.name}: name at least one resolution")
        results = [self.space.lattice(resolution).cheapest(prices) for resolution in resolutions]
        total, row = min(results, key=lambda result: result[0])
        if not np.isfinite(total):
            raise self._missing(resolutions)
        # Summed in the order of `of`, so that a limit of exactly this value can be met.
        return float(self.of(row[None, :])[0]), row

    def _missing(self, resolutions: Sequence[int]) -> MissingOpError:
        needed = self.space.op_indices_at(resolutions)
        missing = [self.space.ops[index].key for index in needed if np.isnan(self.prices[index])]
        return MissingOpError(
            f"no subnet of {self.space.name} at {resolutions_text(resolutions)} has a known"
            f" {self.name}: {len(missing)} of {len(needed)} op configurations are missing,"
            f" {missing[0]} for example; measure them with lutra profile, or import them"
        )

    def text(self, value: float) -> str:
        """A value with its unit: '9.89 ms', '56.2M MACs'."""
        return amount_text(value, self.unit)


def total_costs(costs: Sequence[OpCost], rows: Rows) -> npt.NDArray[np.float64]:
    """(N, genes) -> (N, costs): several costs of one space; ops are looked up once for all."""
    result = np.empty((len(rows), len(costs)))
    if not costs:
        return result
    for chunk, values in op_values(costs[0].space, [cost.prices for cost in costs], rows):
        for column, value in enumerate(values):
            result[chunk, column] = value.sum(axis=1)
    return result + [cost.constant for cost in costs]


def op_values(
    space: SearchSpace, tables: Sequence[npt.NDArray[np.float64]], rows: Rows
) -> Iterator[tuple[slice, Iterator[npt.NDArray[np.float64]]]]:
    """Numbers of each architecture's ops, by chunks of rows (N, genes).

    Yields which rows and, for each table (ops,), an array (rows of the chunk, slots); an empty
    slot has 0.
    """
    # An empty slot's index is -1, which is the 0 at the end.
    padded = [np.append(table, 0.0) for table in tables]
    for start in range(0, len(rows), _CHUNK_ROWS):
        chunk = slice(start, start + _CHUNK_ROWS)
        indices = np.ascontiguousarray(space.op_indices(rows[chunk]))
        yield chunk, (table[indices] for table in padded)


def amount_text(value: float, unit: str) -> str:
    """'9.89 ms', '56.2M MACs'."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:.6g}M {unit}"
    return f"{value:.6g} {unit}"


def resolutions_text(resolutions: Sequence[int]) -> str:
    """'resolution 224' or '5 resolutions from 160 to 224'."""
    if len(resolutions) == 1:
        return f"resolution {resolutions[0]}"
    return f"{len(resolutions)} resolutions from {min(resolutions)} to {max(resolutions)}"


@cache
def macs_cost(space: SearchSpace) -> OpCost:
    """Multiply-accumulate operations of one input; exact integers."""
    return _counted(space, "macs", "MACs", lambda op: op.macs)


@cache
def params_cost(space: SearchSpace) -> OpCost:
    """Trainable parameters; exact integers."""
    return _counted(space, "params", "parameters", lambda op: op.params)


def _counted(space: SearchSpace, name: str, unit: str, count: Callable[[OpConfig], int]) -> OpCost:
    prices = np.array([count(op) for op in space.ops], dtype=np.float64)
    return OpCost(name, unit, space, prices)
