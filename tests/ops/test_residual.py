"""Which blocks of a graph can be left out, and the graph without them."""

from lutra.ops.residual import residual_blocks, without
from tests.ops.graphs import residual_graph


def test_blocks_are_bodies_that_nothing_else_reads() -> None:
    found = {block.add: block for block in residual_blocks(residual_graph())}
    assert {add: block.skip for add, block in found.items()} == {
        "neck.add": "stem.relu",
        "inner.add": "outer.reduce",
        "outer.add": "neck.add.relu",
    }
    assert found["inner.add"].body == {"inner.reduce", "inner.reduce.relu", "inner.expand"}
    assert found["outer.add"].body > found["inner.add"].body


def test_without_a_block_its_input_is_read() -> None:
    graph = residual_graph()
    neck, inner, outer = residual_blocks(graph)
    assert without(graph, []) == graph
    left = without(graph, [neck, outer])
    nodes = {node.name: node.inputs for node in left.nodes}
    assert nodes["neck.add.relu"] == ("stem.relu",)
    assert nodes["tap.add"] == ("neck.add.relu", "tap.expand")
    assert left.shapes.keys() == {"input", *nodes}
    assert left.macs == graph.macs - sum(
        graph.node_macs(node) for node in graph.nodes if node.name in neck.body | outer.body
    )
    assert without(graph, [inner, outer]) == without(graph, [outer])
