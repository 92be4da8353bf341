"""The contract of a search space, and the registry of their names.

In bulk, architectures are rows of an integer array: one column per gene, each entry an index
into that gene's choices. The last column is always the resolution. Genes that have no effect
(of blocks beyond the depth) are *inert*; canonical rows hold 0 there, so that two rows are the
same architecture exactly when they are equal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.errors import ResultError, UsageError
from lutra.ops import Graph, OpConfig, chain_graph
from lutra.search.spaces.architecture import Architecture
from lutra.search.spaces.lattice import Lattice

Rows = npt.NDArray[np.int16]
Indices = npt.NDArray[np.int32]


class Gene(NamedTuple):
    """One choice of the space: which of OFA's lists it belongs to, and its possible values."""

    setting: str
    choices: tuple[float, ...]


class SearchSpace(ABC):
    """A family of networks: genes, the units they are made of, and the paths between them.

    A new space subclasses this in a file of its own and calls `register_space`. ``units`` is the
    catalogue of every unique op configuration over all resolutions; everything additive is an
    array over it.
    """

    name: str
    resolutions: tuple[int, ...]

    @cached_property
    @abstractmethod
    def genes(self) -> tuple[Gene, ...]:
        """The columns of a row; the last is the resolution."""

    @cached_property
    @abstractmethod
    def units(self) -> tuple[OpConfig, ...]:
        """Every unique op configuration of the space, in a stable order."""

    @abstractmethod
    def unit_indices(self, rows: Rows) -> Indices:
        """Which units each architecture consists of, in order.

        (N, genes) -> (N, slots) indices into ``units``; -1 where a slot is empty.
        """

    @abstractmethod
    def canonical(self, rows: Rows) -> Rows:
        """A copy with every inert gene set to 0."""

    @abstractmethod
    def build_lattice(self, resolution: int) -> Lattice:
        """The space at one resolution as a graph of paths; see `Lattice`."""

    def lattice(self, resolution: int) -> Lattice:
        """Like `build_lattice`, built once; raises `UsageError` for a foreign resolution."""
        self.check_resolutions([resolution])
        if resolution not in self._lattices:
            self._lattices[resolution] = self.build_lattice(resolution)
        return self._lattices[resolution]

    @cached_property
    def _lattices(self) -> dict[int, Lattice]:
        return {}

    @cached_property
    def choice_counts(self) -> npt.NDArray[np.int16]:
        """(genes,): how many choices each gene has."""
        return np.array([len(gene.choices) for gene in self.genes], dtype=np.int16)

    def check_resolutions(self, resolutions: Sequence[int]) -> None:
        """Raise `UsageError` for a resolution that the space does not have."""
        for resolution in resolutions:
            if resolution not in self.resolutions:
                low, high = self.resolutions[0], self.resolutions[-1]
                raise UsageError(
                    f"resolution {resolution} is not in {self.name};"
                    f" it has the multiples of 4 from {low} to {high}"
                )

    def resolution_indices(self, resolutions: Sequence[int]) -> npt.NDArray[np.int16]:
        """The choice index of each resolution."""
        self.check_resolutions(resolutions)
        return np.array([self.resolutions.index(r) for r in resolutions], dtype=np.int16)

    def sample(
        self, count: int, rng: np.random.Generator, resolutions: Sequence[int] | None = None
    ) -> Rows:
        """``count`` random canonical rows, each gene drawn uniformly as OFA does."""
        rows = rng.integers(0, self.choice_counts, (count, len(self.genes)), dtype=np.int16)
        if resolutions is not None:
            rows[:, -1] = rng.choice(self.resolution_indices(resolutions), count)
        return self.canonical(rows)

    def units_at(self, resolutions: Sequence[int]) -> list[OpConfig]:
        """The unique op configurations that these resolutions need, in catalogue order."""
        used = {edge.unit for r in resolutions for edge in self.lattice(r).edges if edge.unit >= 0}
        return [self.units[index] for index in sorted(used)]

    def units_of(self, architecture: Architecture) -> list[OpConfig]:
        """The units of one architecture, in order."""
        indices = self.unit_indices(self.encode(architecture)[None, :])[0]
        return [self.units[index] for index in indices if index >= 0]

    def graph(self, architecture: Architecture) -> Graph:
        """The whole network."""
        return chain_graph(self.units_of(architecture))

    def decode(self, row: npt.NDArray[np.int16]) -> Architecture:
        """The architecture that a row stands for."""
        settings: dict[str, list[float]] = {"ks": [], "e": [], "d": [], "w": [], "r": []}
        for gene, choice in zip(self.genes, self.canonical(row[None, :])[0], strict=True):
            settings[gene.setting].append(gene.choices[choice])
        return Architecture(
            self.name,
            ks=tuple(int(v) for v in settings["ks"]),
            e=tuple(settings["e"]),
            d=tuple(int(v) for v in settings["d"]),
            w=tuple(int(v) for v in settings["w"]),
            r=int(settings["r"][0]),
        )

    def encode(self, architecture: Architecture) -> npt.NDArray[np.int16]:
        """An architecture's canonical row; raises `ResultError` when it is not of this space."""
        if architecture.space != self.name:
            raise ResultError(
                f"the architecture is of space '{architecture.space}', not of '{self.name}'"
            )
        self.check_resolutions([architecture.r])
        values: dict[str, Sequence[float]] = {
            "ks": architecture.ks,
            "e": architecture.e,
            "d": architecture.d,
            "w": architecture.w,
            "r": [architecture.r],
        }
        row = np.zeros(len(self.genes), dtype=np.int16)
        for setting, given in values.items():
            columns = self.columns(setting)
            if len(given) != len(columns):
                raise ResultError(
                    f"'{setting}' has {len(given)} entries; {self.name} needs {len(columns)}"
                )
            for column, value in zip(columns, given, strict=True):
                row[column] = self._choice(column, value)
        canonical: npt.NDArray[np.int16] = self.canonical(row[None, :])[0]
        return canonical

    def columns(self, setting: str) -> list[int]:
        """The columns of one of OFA's lists: ``ks``, ``e``, ``d``, ``w`` or ``r``."""
        return [index for index, gene in enumerate(self.genes) if gene.setting == setting]

    def _choice(self, column: int, value: float) -> int:
        gene = self.genes[column]
        if value not in gene.choices:
            allowed = ", ".join(f"{choice:g}" for choice in gene.choices)
            raise ResultError(f"{gene.setting} = {value:g} is not in {self.name}; it has {allowed}")
        return gene.choices.index(value)

    @property
    def size(self) -> int:
        """How many distinct architectures there are, over all resolutions."""
        return sum(self.lattice(r).count() for r in self.resolutions)


_FACTORIES: dict[str, Callable[[], SearchSpace]] = {}
_SPACES: dict[str, SearchSpace] = {}


def register_space(name: str, factory: Callable[[], SearchSpace]) -> None:
    """Make a space known by name; it is built when first asked for."""
    _FACTORIES[name] = factory


def space_names() -> tuple[str, ...]:
    """The known spaces' names."""
    return tuple(_FACTORIES)


def get_space(name: str) -> SearchSpace:
    """The space of that name; raises `UsageError` naming the known ones."""
    if name not in _FACTORIES:
        raise UsageError(f"unknown space '{name}'; known: {', '.join(_FACTORIES)}")
    if name not in _SPACES:
        _SPACES[name] = _FACTORIES[name]()
    return _SPACES[name]
