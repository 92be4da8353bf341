"""Model files without their weights, for devices that look at no more than sizes.

Drawing, packing and writing megabytes for each network is most of what a scripted run takes, and
doing that again for ops that the test before had most of the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import NamedTuple

import pytest

from lutra.emitters.emission import Emission
from lutra.ops import Graph
from lutra.profiler.workload import ModelStore, Workload

_NODE_BYTES = 200  # of names and attributes


class _Build(NamedTuple):
    """What `Emission.builder` gives, of which the graph can be asked."""

    emission: Emission
    graph: Callable[[], Graph]
    build: Callable[[], bytes]

    def __call__(self) -> bytes:
        return self.build()


@contextmanager
def hollow_networks() -> Iterator[None]:
    """Whole networks in fp32 become files of holes, as large as theirs within some hundredths.

    The file of an op is its own the first time, and then as many zeros.
    """
    builder, path_of = Emission.builder, ModelStore.path

    def build(emission: Emission, graph: Callable[[], Graph]) -> _Build:
        return _Build(emission, graph, builder(emission, graph))

    def path(store: ModelStore, workload: Workload) -> Path:
        made = workload.model
        if workload in store._paths or not isinstance(made, _Build):
            return path_of(store, workload)
        if workload.category == "op":
            return path_of(store, replace(workload, model=_again(made, workload.key)))
        if workload.category != "network" or made.emission.precision != "fp32":
            return path_of(store, workload)
        hollow = store._folder / f"{len(store._paths):05d}.{store._suffix}"
        hollow.touch()
        os.truncate(hollow, _file_bytes(made.graph()))
        store._paths[workload] = hollow
        return hollow

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Emission, "builder", build)
        patch.setattr(ModelStore, "path", path)
        yield


_sizes: dict[tuple[Emission, str], int] = {}


def _again(made: _Build, key: str) -> Callable[[], bytes]:
    """What makes an op's file, or zeros where one of it was made before."""

    def content() -> bytes:
        size = _sizes.get((made.emission, key))
        if size is not None:
            return bytes(size)
        built = made()
        _sizes[made.emission, key] = len(built)
        return built

    return content


def _file_bytes(graph: Graph) -> int:
    shapes = (graph.weight_shape(node) for node in graph.nodes if node.has_weights)
    return _NODE_BYTES * len(graph.nodes) + sum(4 * (prod(shape) + shape[0]) for shape in shapes)
