"""Graph to a torch module, with the same weights: the reference the other emitters are held to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from lutra.ops import Graph, Node, Weights


class GraphModule(nn.Module):
    """Runs a graph node by node on (N, C, H, W) input; a final linear layer gives (N, features)."""

    def __init__(self, graph: Graph, weights: Weights) -> None:
        super().__init__()
        self._graph = graph
        self._arrays = nn.ParameterDict(
            {
                _parameter(name): nn.Parameter(torch.tensor(weights[name]), requires_grad=False)
                for name, _ in graph.weight_shapes()
            }
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) of the graph's input shape to its output."""
        values = {self._graph.input: features}
        for node in self._graph.nodes:
            inputs = [values[name] for name in node.inputs]
            values[node.name] = _RUN[node.op](self, node, inputs)
        return values[self._graph.output]

    def array(self, node: Node, part: str) -> Tensor:
        """The node's ``weight`` or ``bias``."""
        tensor = self._arrays[_parameter(f"{node.name}.{part}")]
        assert isinstance(tensor, Tensor)
        return tensor


def emit_torch(graph: Graph, weights: Weights) -> GraphModule:
    """The graph as a torch module in inference mode."""
    module = GraphModule(graph, weights)
    return module.eval()  # type: ignore[no-any-return, unused-ignore]


def _parameter(name: str) -> str:
    return name.replace(".", "/")


def _bias(module: GraphModule, node: Node) -> Tensor | None:
    return module.array(node, "bias") if node.has_bias else None


def _conv(module: GraphModule, node: Node, inputs: list[Tensor]) -> Tensor:
    return functional.conv2d(
        inputs[0],
        module.array(node, "weight"),
        _bias(module, node),
        stride=node.stride,
        padding=node.padding,
        groups=node.groups,
    )


def _linear(module: GraphModule, node: Node, inputs: list[Tensor]) -> Tensor:
    flat = inputs[0].flatten(1)
    return functional.linear(flat, module.array(node, "weight"), _bias(module, node))


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "relu6": functional.relu6,
    "h_swish": functional.hardswish,
    "h_sigmoid": functional.hardsigmoid,
}

_RUN: dict[str, Callable[[GraphModule, Node, list[Tensor]], Tensor]] = {
    "conv2d": _conv,
    "depthwise": _conv,
    "linear": _linear,
    "activation": lambda _, node, inputs: _ACTIVATIONS[node.function](inputs[0]),
    "add": lambda _, node, inputs: inputs[0] + inputs[1],
    "mul": lambda _, node, inputs: inputs[0] * inputs[1],
    "global_pool": lambda _, node, inputs: inputs[0].mean((2, 3), keepdim=True),
    "max_pool": lambda _, node, inputs: functional.max_pool2d(
        inputs[0], node.kernel, node.stride, node.padding
    ),
    "avg_pool": lambda _, node, inputs: functional.avg_pool2d(
        inputs[0], node.kernel, node.stride, node.padding, ceil_mode=True
    ),
}
