"""The torch model file: a plain description of a network and its weights, and its module.

A file is what ``torch.save`` makes of the dictionary that `lutra.emitters.torch` writes,
and is read with ``weights_only=True``: no code of the file's author runs::

    {"lutra_torch": 1, "input": "input", "input_shape": [N, C, H, W], "output": "...",
     "nodes": [{"op": "conv2d", "name": "...", "inputs": ["..."], "kernel": 3, "stride": 1,
                "padding": 1, "groups": 1, "function": "none"}, ...],
     "weights": {"NODE.weight": tensor, "NODE.bias": tensor, ...}}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

MAGIC = "lutra_torch"
VERSION = 1


class _Step(NamedTuple):
    """One node made ready; ``done_with`` names the feature maps that nothing reads afterwards."""

    name: str
    run: Callable[..., Tensor]
    node: dict[str, Any]
    inputs: tuple[str, ...]
    done_with: tuple[str, ...]


class GraphModule(nn.Module):
    """Runs a document's nodes on (N, C, H, W) input; a final linear layer gives (N, features)."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__()
        self.input_shape = tuple(document["input_shape"])
        self._input = document["input"]
        self._output = document["output"]
        self._steps = _steps(document)
        for name, tensor in document["weights"].items():
            self.register_parameter(_parameter(name), nn.Parameter(tensor, requires_grad=False))

    def forward(
        self, features: Tensor, observe: Callable[[str, Tensor], None] | None = None
    ) -> Tensor:
        """The network's output; ``observe`` is shown every feature map under its name."""
        values = {self._input: features}
        if observe is not None:
            observe(self._input, features)
        for step in self._steps:
            value = step.run(self, step.node, *[values[name] for name in step.inputs])
            values[step.name] = value
            if observe is not None:
                observe(step.name, value)
            for name in step.done_with:
                del values[name]
        return values[self._output]

    def array(self, node: dict[str, Any], part: str) -> Tensor | None:
        """The node's ``weight`` or ``bias``; None where it has none."""
        return self._parameters.get(_parameter(f"{node['name']}.{part}"))

    @property
    def dtype(self) -> torch.dtype:
        """What inputs must be: the weights' own type."""
        return next((array.dtype for array in self.parameters()), torch.float32)


def load_module(path: str) -> GraphModule:
    """The module of a torch model file; raises ValueError for any other file."""
    document = torch.load(path, weights_only=True, map_location="cpu")
    if not isinstance(document, dict) or document.get(MAGIC) != VERSION:
        raise ValueError("not a torch model file of lutra (`lutra export --format torch` writes)")
    return GraphModule(document).eval()


def _steps(document: dict[str, Any]) -> tuple[_Step, ...]:
    last_reader = {name: node["name"] for node in document["nodes"] for name in node["inputs"]}
    last_reader.pop(document["output"], None)
    return tuple(
        _Step(
            node["name"],
            _runner(node["op"]),
            node,
            tuple(node["inputs"]),
            tuple(
                name
                for name in dict.fromkeys(node["inputs"])
                if last_reader.get(name) == node["name"]
            ),
        )
        for node in document["nodes"]
    )


def _runner(op: str) -> Callable[..., Tensor]:
    if op in _WEIGHTED:
        return _WEIGHTED[op]
    return lambda _, node, *inputs: WEIGHTLESS[op](node, *inputs)


def _parameter(name: str) -> str:
    return name.replace(".", "/")  # torch allows no dot in a parameter's name


def _conv(module: GraphModule, node: dict[str, Any], features: Tensor) -> Tensor:
    weight = module.array(node, "weight")
    assert weight is not None
    return functional.conv2d(
        features,
        weight,
        module.array(node, "bias"),
        stride=node["stride"],
        padding=node["padding"],
        groups=node["groups"],
    )


def _linear(module: GraphModule, node: dict[str, Any], features: Tensor) -> Tensor:
    weight = module.array(node, "weight")
    assert weight is not None
    return functional.linear(features.flatten(1), weight, module.array(node, "bias"))


def _max_pool(node: dict[str, Any], features: Tensor) -> Tensor:
    return functional.max_pool2d(features, node["kernel"], node["stride"], node["padding"])


def _avg_pool(node: dict[str, Any], features: Tensor) -> Tensor:
    return functional.avg_pool2d(
        features, node["kernel"], node["stride"], node["padding"], ceil_mode=True
    )


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "relu6": functional.relu6,
    "h_swish": functional.hardswish,
    "h_sigmoid": functional.hardsigmoid,
}

# What needs no weights, from a node's description and its inputs.
WEIGHTLESS: dict[str, Callable[..., Tensor]] = {
    "activation": lambda node, features: _ACTIVATIONS[node["function"]](features),
    "add": lambda _, left, right: left + right,
    "mul": lambda _, features, gate: features * gate,
    "global_pool": lambda _, features: features.mean((2, 3), keepdim=True),
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
}
_WEIGHTED: dict[str, Callable[..., Tensor]] = {
    "conv2d": _conv,
    "depthwise": _conv,
    "linear": _linear,
}
OPS = frozenset((*WEIGHTLESS, *_WEIGHTED))
