"""How many feature-map elements are alive at once: by definition, and by LiteRT's own planner."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lutra.emitters.emission import Emission
from lutra.ops import Conv, Graph, MBConv, OpConfig, Shape, chain_graph
from lutra.ops.liveness import Step, peak_activation_elements, peak_elements
from lutra.spaces import get_space

SPACES = ("ofa-mbv3-w1.0", "ofa-proxyless-w1.3", "ofa-resnet50d", "ofa-mbv3-fashion")
# What LiteRT's greedy planner leaves empty between feature maps: 1.03 to 1.31 were seen.
GAPS = 1.35
ALIGNED_BYTES = 64


@st.composite
def programs(draw: st.DrawFn) -> list[Step]:
    """Steps that read what was written before them."""
    names, steps = ["input"], []
    for number in range(draw(st.integers(1, 8))):
        inputs = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
        steps.append(Step(f"m{number}", draw(st.integers(1, 9)), tuple(inputs)))
        names.append(f"m{number}")
    return steps


@given(programs(), st.integers(1, 9))
def test_the_peak_is_the_most_that_lies_between_first_and_last_use(
    steps: list[Step], elements: int
) -> None:
    size = {"input": elements} | {step.output: step.elements for step in steps}
    first = {"input": 0} | {step.output: place for place, step in enumerate(steps)}
    end = len(steps)
    last = {
        name: max((place for place, step in enumerate(steps) if name in step.inputs), default=end)
        for name in size
    } | {steps[-1].output: end}
    totals = [
        sum(size[name] for name in size if first[name] <= place <= last[name])
        for place in range(end)
    ]
    assert peak_elements("input", elements, steps, steps[-1].output) == max(elements, *totals)


def test_what_is_counted_at_a_block_with_a_shortcut() -> None:
    """While the depthwise layer runs: its input and output, and the shortcut."""
    shape = Shape(8, 8, 4)
    plain = MBConv(shape, 4, 24, kernel=3, stride=1, activation="relu", se=False, residual=False)
    kept = MBConv(shape, 4, 24, kernel=3, stride=1, activation="relu", se=False, residual=True)
    swish = MBConv(shape, 4, 24, kernel=3, stride=1, activation="h_swish", se=False, residual=True)
    assert plain.peak_activation_elements == 64 * (24 + 24)
    assert kept.peak_activation_elements == 64 * (24 + 24 + 4)
    assert swish.peak_activation_elements == kept.peak_activation_elements
    assert Conv(shape, 8, activation="relu").peak_activation_elements == 64 * (4 + 8)
    assert Conv(shape, 8, activation="h_swish").peak_activation_elements == 64 * (8 + 8)


@pytest.mark.parametrize("name", SPACES)
def test_a_chain_s_peak_is_the_largest_of_its_ops(name: str) -> None:
    space = get_space(name)
    for row in space.sample(5, np.random.default_rng(0)):
        ops = space.ops_of(space.decode(row))
        of_ops = max(op.peak_activation_elements for op in ops)
        assert peak_activation_elements(chain_graph(ops)) == of_ops


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", SPACES)
def test_litert_s_arena_is_what_is_alive_and_its_gaps(name: str, precision: str) -> None:
    """Without its delegate, which tells nothing of its memory, and by its reference kernels.

    The file's own operators are those of the graph and padded copies where TFLite needs them.
    """
    space = get_space(name)
    emission = Emission("tflite", precision)
    for row in space.sample(2, np.random.default_rng(0)):
        graph = space.graph(space.decode(row))
        arena = Arena(emission, graph)
        counted = emission.feature_bytes * peak_activation_elements(graph)
        assert arena.padded or counted == arena.alive_bytes
        assert counted <= arena.alive_bytes <= arena.extent_bytes
        assert arena.extent_bytes <= GAPS * arena.alive_bytes + arena.maps * ALIGNED_BYTES


@pytest.mark.parametrize("name", SPACES)
def test_ops_without_padded_copies_are_counted_as_litert_has_them(name: str) -> None:
    space = get_space(name)
    emission = Emission("tflite", "int8")
    compared = 0
    for op in _some_ops(space.ops_at([space.resolutions[-1]]), 24):
        arena = Arena(emission, op.graph)
        if not arena.padded:
            assert op.peak_activation_elements == arena.alive_bytes, op.key
            compared += 1
    assert compared >= 5


def _some_ops(ops: list[OpConfig], count: int) -> list[OpConfig]:
    return [ops[place] for place in np.linspace(0, len(ops) - 1, count).astype(int)]


class Arena:
    """Where LiteRT puts the feature maps of a graph's file: by the addresses of its tensors.

    ``extent_bytes`` is from the first byte of any to the last, ``alive_bytes`` what is alive at
    once of the file's own operators, ``padded`` whether padded copies are among those.
    """

    def __init__(self, emission: Emission, graph: Graph) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        interpreter = Interpreter(
            model_content=emission.builder(lambda: graph)(),
            experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        )
        interpreter.allocate_tensors()
        operators = interpreter._get_ops_details()
        source = interpreter.get_input_details()[0]["index"]
        result = interpreter.get_output_details()[0]["index"]
        sizes, ends = {}, []
        for index in {source, *(int(item["outputs"][0]) for item in operators)}:
            view = interpreter.tensor(index)()
            start = view.__array_interface__["data"][0]
            sizes[index] = view.nbytes
            ends.append((start, start + view.nbytes))
        self.maps = len(sizes)
        self.extent_bytes = max(end for _, end in ends) - min(start for start, _ in ends)
        self.padded = any(item["op_name"].startswith("PAD") for item in operators)
        steps = [_step(item, sizes) for item in operators]
        self.alive_bytes = peak_elements(str(source), sizes[source], steps, str(result))


def _step(operator: dict[str, Any], sizes: dict[int, int]) -> Step:
    output = int(operator["outputs"][0])
    inputs = tuple(str(index) for index in map(int, operator["inputs"]) if index in sizes)
    return Step(str(output), sizes[output], inputs, in_place=operator["op_name"] == "ADD")
