"""What an int8 file computes, step by step: which feature maps have a grid, what is fused.

The plans are the emitters' own, of `lutra.emitters.onnx_int8` and `lutra.emitters.tflite`, in one
form that can be simulated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lutra.emitters.quantization import INT8, UINT8, Range
from lutra.errors import UsageError
from lutra.ops import Graph
from lutra.ops.graph import Activation, Node
from lutra.supernets.quantization.kernels import ONNX, TFLITE, Kernel


@dataclass(frozen=True)
class Step:
    """An operator: ``node`` of its inputs, plus ``raised``, through ``function``, by ``factor``.

    Without a node it is the input that goes through, as where one without weights is ``raised``.
    """

    node: Node | None
    inputs: tuple[str, ...]
    output: str
    raised: float = 0.0
    function: Activation = "none"
    factor: float = 1.0


@dataclass(frozen=True)
class Plan:
    """Steps in order, and for each quantised feature map the one over whose range its grid lies.

    ``lowest`` and ``highest`` are the integers of a grid; ``fixed`` ranges are the format's own.
    ``kernels`` are those that round otherwise than the function on its grid.
    """

    steps: tuple[Step, ...]
    grid_names: Mapping[str, str]
    lowest: int
    highest: int
    fixed: Mapping[str, Range] = field(default_factory=dict)
    kernels: Mapping[str, Kernel] = field(default_factory=dict)


def plan_of(graph: Graph, format: str) -> Plan:
    """The plan of a graph's int8 file; raises `UsageError` for a format that has none."""
    plans = {"onnx": _onnx_plan, "tflite": _tflite_plan}
    if format not in plans:
        raise UsageError(f"no int8 is simulated for '{format}'; known: {', '.join(plans)}")
    return plans[format](graph)


def _onnx_plan(graph: Graph) -> Plan:
    from lutra.emitters.onnx_int8 import plan
    from lutra.emitters.onnx_model import file_names, translated

    # Arrays of the right shapes that take no memory: which operators there are does not depend.
    arrays = {name: np.broadcast_to(np.float32(0), shape) for name, shape in graph.weight_shapes()}
    operators, grid_names = plan(translated(graph, arrays, 1))
    nodes = {node.name: node for node in graph.nodes}
    own = {name: name for name in graph.shapes}
    own |= {file_name: name for name, file_name in file_names(graph).items()}
    # The flattened feature map before a linear layer has the range of what it is made of.
    flat = {item.output: own[item.inputs[0]] for item in operators if item.type == "Flatten"}
    steps = []
    for operator in operators:
        inputs = tuple(own.get(name, name) for name in operator.inputs)
        output = own.get(operator.output, operator.output)
        node = nodes.get(operator.name)
        absorbed = node is not None and output != node.name
        function = nodes[output].function if absorbed else "none"
        steps.append(Step(node, inputs, output, function=function))
    named = {**own, **flat}
    grids = {own.get(name, name): named[source] for name, source in grid_names.items()}
    return Plan(tuple(steps), grids, *UINT8, kernels=ONNX)


def _tflite_plan(graph: Graph) -> Plan:
    from lutra.emitters.tflite import RAMP, fused_activations, raised
    from lutra.emitters.tflite_precision import GRID_KEEPING_OPS

    fused = fused_activations(graph)
    absorbed = {activation.name for activation in fused.values()}
    steps: list[Step] = []
    ramps: dict[str, Range] = {}
    grids = {graph.input: graph.input}
    for node in graph.nodes:
        if node.name in absorbed:
            continue
        activation = fused.get(node.name)
        output = node.name if activation is None else activation.name
        ramp = f"{node.name}.ramp"
        if activation is not None and activation.function == "h_sigmoid":
            steps.append(Step(node, node.inputs, ramp, raised(activation), "relu6"))
        elif node.function == "h_sigmoid":
            steps.append(Step(node, node.inputs, ramp, raised(node), "relu6"))
        else:
            function = "none" if activation is None else activation.function
            steps.append(Step(node, node.inputs, output, function=function))
        if steps[-1].output == ramp:
            ramps[ramp] = RAMP
            grids[ramp] = ramp
            steps.append(Step(None, (ramp,), output, factor=1 / 6))
        grids[output] = grids[node.inputs[0]] if node.op in GRID_KEEPING_OPS else output
    return Plan(tuple(steps), grids, *INT8, ramps, TFLITE)
