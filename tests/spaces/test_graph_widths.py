"""The narrower forms of a graph that is no chain of blocks: what is left out, and what it costs."""

import numpy as np
import pytest

from lutra.predictors.accuracy.sensitivities import sensitivity_rows
from lutra.spaces.graph_widths import GraphWidthSpace
from tests.ops.graphs import residual_graph


@pytest.fixture(scope="module")
def space() -> GraphWidthSpace:
    return GraphWidthSpace(residual_graph())


def spare_columns(space: GraphWidthSpace) -> list[int]:
    return [column for column, gene in enumerate(space.genes) if gene.choices[0] == 0]


def test_the_innermost_blocks_may_be_left_out(space: GraphWidthSpace) -> None:
    full = space.choice_counts - 1
    left = []
    for column in spare_columns(space):
        row = full.copy()
        row[column] = 0
        names = {node.name for node in space.graph(space.decode(row)).nodes}
        left.append({node.name for node in space.full_graph.nodes} - names)
        assert any(np.array_equal(row, each) for each in sensitivity_rows(space))
    assert left == [
        {
            f"neck.{name}"
            for name in ("reduce", "reduce.relu", "conv", "conv.relu", "expand", "add")
        },
        {f"inner.{name}" for name in ("reduce", "reduce.relu", "expand", "add")},
    ]


def test_a_block_left_out_has_one_row(space: GraphWidthSpace) -> None:
    """However few channels its other layers would have."""
    (neck, _), rows = spare_columns(space), space.sample(200, np.random.default_rng(0))
    assert np.array_equal(space.canonical(rows), rows)
    out = rows[rows[:, neck] == 0]
    assert len(out) > 10
    assert (out[:, neck + 1] == space.choice_counts[neck + 1] - 1).all()
    assert len(np.unique(rows[rows[:, neck] > 0][:, neck + 1])) > 2


def test_ops_are_the_graph_s(space: GraphWidthSpace) -> None:
    macs = np.array([*(op.macs for op in space.ops), 0.0])
    for row in space.sample(100, np.random.default_rng(1)):
        graph = space.graph(space.decode(row))
        assert macs[space.op_indices(row[None])].sum() == graph.macs
        for node in graph.nodes:
            assert graph.shapes[node.name].channels > 0
