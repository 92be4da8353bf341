"""The contract of a search space.

In bulk, architectures are rows of an integer array: one column per gene, each entry an index
into that gene's choices. The last column is always the resolution. Genes that have no effect
(of blocks beyond the depth) are *inert*; canonical rows hold 0 there, so that two rows are the
same architecture exactly when they are equal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.errors import ResultError, UsageError
from lutra.ops import Graph, OpConfig, chain_graph
from lutra.spaces.architecture import Architecture
from lutra.spaces.lattice import Lattice

Rows = npt.NDArray[np.int16]
Indices = npt.NDArray[np.int32]

_RESOLUTION = ("r", "image_size")


class Gene(NamedTuple):
    """One choice of the space: the `Architecture`'s list that it is in, and its possible values.

    Genes of one list stand in the list's order; the resolution's list is ``r``.
    """

    list_name: str
    choices: tuple[float, ...]


class SearchSpace(ABC):
    """A family of networks: genes, the ops they are made of, and the paths between them.

    A new space subclasses this in a file of its own (docs/add-a-space.md). ``ops`` is the
    catalogue of every unique op over all resolutions; what adds up over ops (latency, MACs) is an
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
    def ops(self) -> tuple[OpConfig, ...]:
        """Every unique op of the space, in a stable order."""

    @abstractmethod
    def op_indices(self, rows: Rows) -> Indices:
        """Which ops each architecture consists of, in order.

        (N, genes) -> (N, slots) indices into ``ops``; -1 where a slot is empty.
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
                raise UsageError(
                    f"resolution {resolution} is not in {self.name};"
                    f" it has {_in_words(self.resolutions)}"
                )

    def resolution_indices(self, resolutions: Sequence[int]) -> npt.NDArray[np.int16]:
        """The choice index of each resolution."""
        self.check_resolutions(resolutions)
        return np.array([self.resolutions.index(r) for r in resolutions], dtype=np.int16)

    def sample(
        self, count: int, rng: np.random.Generator, resolutions: Sequence[int] | None = None
    ) -> Rows:
        """(count, genes): random canonical rows, each gene drawn uniformly as OFA does."""
        rows = rng.integers(0, self.choice_counts, (count, len(self.genes)), dtype=np.int16)
        if resolutions is not None:
            rows[:, -1] = rng.choice(self.resolution_indices(resolutions), count)
        return self.canonical(rows)

    def ops_at(self, resolutions: Sequence[int]) -> list[OpConfig]:
        """The unique ops that these resolutions need, in catalogue order."""
        used = {edge.op for r in resolutions for edge in self.lattice(r).edges if edge.op >= 0}
        return [self.ops[index] for index in sorted(used)]

    def ops_of(self, architecture: Architecture) -> list[OpConfig]:
        """The ops of one architecture, in order."""
        indices = self.op_indices(self.encode(architecture)[None, :])[0]
        return [self.ops[index] for index in indices if index >= 0]

    def graph(self, architecture: Architecture) -> Graph:
        """The whole network."""
        return chain_graph(self.ops_of(architecture))

    def decode(self, row: npt.NDArray[np.int16]) -> Architecture:
        """The architecture that a row (genes,) stands for."""
        lists: dict[str, list[float]] = {}
        for gene, choice in zip(self.genes, self.canonical(row[None, :])[0], strict=True):
            lists.setdefault(gene.list_name, []).append(gene.choices[choice])
        (resolution,) = lists.pop("r")
        return Architecture(self.name, int(resolution), lists)

    def encode(self, architecture: Architecture) -> npt.NDArray[np.int16]:
        """An architecture's canonical row (genes,).

        Raises `ResultError` when it is not of this space, `UsageError` for a foreign resolution.
        """
        if architecture.space != self.name:
            raise ResultError(
                f"the architecture is of space '{architecture.space}', not of '{self.name}'"
            )
        self.check_resolutions([architecture.r])
        lists = {**dict(architecture.lists), "r": (architecture.r,)}
        row = np.zeros(len(self.genes), dtype=np.int16)
        for name in dict.fromkeys([*self.list_names, *lists]):
            given, columns = lists.get(name, ()), self.columns(name)
            if len(given) != len(columns):
                raise ResultError(
                    f"'{name}' has {len(given)} entries; {self.name} needs {len(columns)}"
                )
            for column, value in zip(columns, given, strict=True):
                row[column] = self._choice(column, value)
        canonical: npt.NDArray[np.int16] = self.canonical(row[None, :])[0]
        return canonical

    def parse(self, document: Mapping[str, Any]) -> Architecture:
        """One of OFA's dictionaries: a list per name, ``r`` (number or list) or ``image_size``.

        Of other entries lists are kept, for `encode` to refuse, and the rest is left out. Raises
        `ResultError`; whether the choices are the space's, `encode` says.
        """
        resolution = document.get("r", document.get("image_size"))
        if isinstance(resolution, list) and len(resolution) == 1:
            resolution = resolution[0]
        if not isinstance(resolution, int):
            raise ResultError('the architecture has no resolution; add "r": 224, for example')
        foreign = [name for name, value in document.items() if isinstance(value, list | tuple)]
        names = dict.fromkeys([*self.list_names, *foreign])
        lists = {name: _numbers(document, name) for name in names if name not in _RESOLUTION}
        return Architecture(self.name, resolution, lists)

    @cached_property
    def list_names(self) -> tuple[str, ...]:
        """The names of an architecture's lists: ``ks``, ``e``, ``d``, ``r`` for example."""
        return tuple(dict.fromkeys(gene.list_name for gene in self.genes))

    def columns(self, list_name: str) -> list[int]:
        """The columns of one of the lists."""
        return [index for index, gene in enumerate(self.genes) if gene.list_name == list_name]

    def _choice(self, column: int, value: float) -> int:
        gene = self.genes[column]
        if value not in gene.choices:
            allowed = ", ".join(f"{choice:g}" for choice in gene.choices)
            raise ResultError(
                f"{gene.list_name} = {value!s:.20} is not in {self.name}; it has {allowed}"
            )
        return gene.choices.index(value)

    @property
    def size(self) -> int:
        """How many distinct architectures there are, over all resolutions."""
        return sum(self.lattice(r).count() for r in self.resolutions)


def _in_words(resolutions: tuple[int, ...]) -> str:
    low, high = resolutions[0], resolutions[-1]
    if len(resolutions) > 4 and resolutions == tuple(range(low, high + 1, 4)):
        return f"the multiples of 4 from {low} to {high}"
    return ", ".join(map(str, resolutions))


def _numbers(document: Mapping[str, Any], name: str) -> tuple[float, ...]:
    """A list of the document; whole numbers as integers, which is how spaces have them."""
    values = document.get(name) or ()
    if not isinstance(values, list | tuple) or not all(
        isinstance(value, int | float) for value in values
    ):
        raise ResultError(f'the architecture\'s "{name}" must be a list of numbers')
    return tuple(
        int(value) if isinstance(value, float) and value.is_integer() else value for value in values
    )
