"""The contract of a search space.

In bulk, architectures are rows of an integer array: one column per gene, each entry an index
into that gene's choices. The last column is always the resolution. Genes that have no effect
(of blocks beyond the depth) are *inert*; canonical rows hold 0 there (`NarrowerForms` the last
choice), so that two rows are the same architecture exactly when they are equal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lutra.errors import ResultError, UsageError
from lutra.files import parse_json
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
        """A copy with every inert gene set to its one choice: 0, or what the space says."""

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
                    f"resolution {resolution!s:.20} is not in {self.name};"
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
        return [self.ops[index] for index in self.op_indices_at(resolutions)]

    def op_indices_at(self, resolutions: Sequence[int]) -> list[int]:
        """The indices of `ops_at` into ``ops``, sorted."""
        used = {edge.op for r in resolutions for edge in self.lattice(r).edges if edge.op >= 0}
        return sorted(used)

    def op_counts(self, rows: Rows) -> npt.NDArray[np.float64]:
        """(N, genes) -> (N, ops): how often each op is in each architecture."""
        counts = np.zeros((len(rows), len(self.ops) + 1))  # an empty slot's index is -1, the last
        indices = self.op_indices(rows)
        np.add.at(counts, (np.arange(len(rows))[:, None], indices), 1.0)
        return counts[:, :-1]

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
        self._require_own_lists(lists)
        for name, given in lists.items():
            columns = self.columns(name)
            if len(given) != len(columns):
                raise ResultError(
                    f"'{name}' has {len(given)} entries; {self.name} needs {len(columns)}"
                )
            for column, value in zip(columns, given, strict=True):
                row[column] = self._choice(column, value)
        canonical: npt.NDArray[np.int16] = self.canonical(row[None, :])[0]
        return canonical

    def _require_own_lists(self, names: Collection[str]) -> None:
        """Raise `ResultError`, naming a list that is not the space's or is not there."""
        foreign = [name for name in names if name not in self.list_names]
        missing = [name for name in self.list_names if name not in names]
        if foreign or missing:
            wrong = f"'{foreign[0]}' is none of them" if foreign else f"'{missing[0]}' is missing"
            raise ResultError(
                f"the lists of {self.name} are {', '.join(self.list_names)}, and {wrong}:"
                " is the architecture of another space?"
            )

    def parse(self, document: Mapping[str, Any]) -> Architecture:
        """One of OFA's dictionaries: a list per name, ``r`` (number or list) or ``image_size``.

        Of other entries lists are kept, for `encode` to refuse, and the rest is left out. Raises
        `ResultError`; whether the choices are the space's, `encode` says.
        """
        resolution = _resolution(document)
        foreign = [name for name, value in document.items() if isinstance(value, list | tuple)]
        names = dict.fromkeys([*self.list_names, *foreign])
        lists = {name: _numbers(document, name) for name in names if name not in _RESOLUTION}
        return Architecture(self.name, resolution, lists)

    def from_key(self, key: str) -> Architecture | None:
        """The architecture of a network's key in a table; None for one of another space.

        Raises `ResultError` and `UsageError` for what is no architecture.
        """
        try:
            document = parse_json(key)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ResultError(f"'{key:.40}' is the key of no architecture")
        if document.get("space") != self.name:
            return None
        architecture = self.parse(document)
        self.encode(architecture)
        return architecture

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


def _resolution(document: Mapping[str, Any]) -> int:
    """The one resolution that the document names, once or twice."""
    given = {name: document[name] for name in _RESOLUTION if document.get(name) is not None}
    if not given:
        raise ResultError('the architecture has no resolution; add "r": 224, for example')
    sizes = [_whole(_only(value)) for value in given.values()]
    for name, size in zip(given, sizes, strict=True):
        if type(size) is not int:
            raise ResultError(f'the architecture\'s "{name}" must be one whole number, as 224')
    if len(set(sizes)) > 1:
        raise ResultError("the architecture's r and image_size differ: leave one of them out")
    return int(sizes[0])


def _only(value: Any) -> Any:
    """The entry of a list that has but one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _numbers(document: Mapping[str, Any], name: str) -> tuple[float, ...]:
    """A list of the document; whole numbers as integers, which is how spaces have them."""
    values = document.get(name)
    if values is None:
        return ()
    if not isinstance(values, list | tuple) or not all(
        type(value) in (int, float) for value in values
    ):
        raise ResultError(f'the architecture\'s "{name}" must be a list of numbers')
    return tuple(map(_whole, values))


def _whole(value: Any) -> Any:
    """A float that stands for a whole number as an integer; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
