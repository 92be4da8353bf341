"""A user's own module as a network of ours: a graph of primitive nodes, and its weights.

What torch.fx records of one pass is translated node by node. From then on it is emitted, timed,
pruned and quantised like any other network.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from lutra.errors import ModelError
from lutra.ops import Graph, Node, Shape
from lutra.ops.graph import Activation
from lutra.supernets.subnet import Subnet
from lutra.text import printable_line, why

_ACTIVATIONS: Mapping[object, Activation] = {
    **dict.fromkeys((nn.ReLU, functional.relu, functional.relu_, torch.relu, "relu"), "relu"),
    **dict.fromkeys((nn.ReLU6, functional.relu6), "relu6"),
    **dict.fromkeys((nn.Hardswish, functional.hardswish), "h_swish"),
    **dict.fromkeys((nn.Hardsigmoid, functional.hardsigmoid), "h_sigmoid"),
}
_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
_PRODUCTS = (operator.mul, operator.imul, torch.mul, "mul", "mul_")
_FLATTENINGS = (nn.Flatten, torch.flatten, "flatten")
_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout2d, functional.dropout, "contiguous")
_GLOBAL = (nn.AdaptiveAvgPool2d, functional.adaptive_avg_pool2d)


def traced(module: nn.Module, image_shape: tuple[int, int, int]) -> Subnet:
    """A module in inference mode as a `Subnet` of equal outputs; its weights are copies.

    ``image_shape`` is (channels, height, width), of square images. Known are convolutions (zero
    padding of half the kernel, no dilation), batch normalisations behind them, linear layers, ReLU,
    ReLU6, hard swish and sigmoid, sums, products with one number per channel, maximum and average
    pooling, flattening. Raises `ModelError` that names what else the module has.

    >>> from torch import nn
    >>> layers = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten())
    >>> traced(layers, (1, 28, 28)).graph.output_shape.channels
    8
    """
    channels, height, width = image_shape
    if height != width:
        raise ModelError(f"images must be square, not {height}x{width}")
    try:
        recorded = fx.symbolic_trace(deepcopy(module).cpu().eval())
        with torch.inference_mode():
            ShapeProp(recorded).propagate(torch.zeros(1, *image_shape))
    except Exception as problem:  # whatever a user's module raises
        raise ModelError(
            f"the module cannot be traced: {printable_line(why(problem))}"
        ) from problem
    translation = _Translation(recorded, Shape(height, width, channels))
    for node in recorded.graph.nodes:
        translation.take(node)
    return translation.subnet()


class _Translation:
    """The graph so far, and which layer of the module each of its weighted nodes has."""

    def __init__(self, recorded: fx.GraphModule, input_shape: Shape) -> None:
        self._modules = dict(recorded.named_modules())
        self._names: dict[fx.Node, str] = {}
        self._shapes = {"input": input_shape}
        self._nodes: dict[str, Node] = {}
        self._layers: dict[str, nn.Module] = {}
        self._norms: dict[str, nn.BatchNorm2d] = {}
        self._output = "input"

    def subnet(self) -> Subnet:
        graph = Graph("input", self._output, self._shapes, tuple(self._nodes.values()))
        subnet = Subnet(graph)
        for name, layer in self._layers.items():
            self._fill(subnet, name, layer)
        return subnet.eval()

    @torch.no_grad()
    def _fill(self, subnet: Subnet, name: str, layer: nn.Module) -> None:
        """Copy a layer; the bias of one with a norm goes into the norm's mean."""
        key = name.replace(".", "/")
        state = layer.state_dict()
        norm = self._norms.get(name)
        if norm is None:
            subnet.layers[key].load_state_dict(state)
            return
        subnet.layers[key].load_state_dict({"weight": state["weight"]})
        own = subnet.norms[key]
        assert isinstance(own, nn.BatchNorm2d)
        own.load_state_dict(norm.state_dict())
        own.eps = norm.eps
        if "bias" in state and own.running_mean is not None:
            own.running_mean -= state["bias"]

    def take(self, node: fx.Node) -> None:
        match node.op:
            case "placeholder":
                if self._names:
                    raise ModelError("the module takes more than one input")
                self._names[node] = "input"
            case "output":
                self._end(node.args[0])
            case "call_module":
                layer = self._modules[str(node.target)]
                self._call(node, type(layer), layer)
            case "call_function" | "call_method":
                self._call(node, node.target, None)
            case _:
                raise self._unknown(node)

    def _end(self, result: Any) -> None:
        if not isinstance(result, fx.Node):
            raise ModelError("the module gives more than one output")
        self._output = self._names[result]

    def _call(self, node: fx.Node, what: Any, layer: nn.Module | None) -> None:
        match layer:
            case nn.Conv2d():
                return self._convolve(node, layer)
            case nn.BatchNorm2d():
                return self._normalise(node, layer)
            case nn.Linear():
                return self._linear(node, layer)
            case nn.MaxPool2d() | nn.AvgPool2d():
                return self._pool(node, layer)
        return self._call_plain(node, what, layer)

    def _call_plain(self, node: fx.Node, what: Any, layer: nn.Module | None) -> None:
        """What has no weights."""
        nothing = what in _NOTHING or (what in _FLATTENINGS and _starts_at_channels(node, layer))
        if nothing:
            self._names[node] = self._source(node)
        elif what in _ACTIVATIONS:
            self._add(node, Node("activation", node.name, (), function=_ACTIVATIONS[what]))
        elif what in _SUMS and node.kwargs.get("alpha", 1) == 1:
            self._add(node, Node("add", node.name, ()), inputs=2)
        elif what in _PRODUCTS:
            self._scale(node)
        elif self._is_global_pool(node, what):
            self._add(node, Node("global_pool", node.name, ()))
        else:
            raise self._unknown(node)

    def _source(self, node: fx.Node, place: int = 0) -> str:
        given = node.args[place] if place < len(node.args) else None
        if not isinstance(given, fx.Node) or given not in self._names:
            raise self._unknown(node)
        return self._names[given]

    def _add(self, node: fx.Node, made: Node, *, inputs: int = 1) -> None:
        """Append a node under its own name, reading what the recorded one reads."""
        names = tuple(self._source(node, place) for place in range(inputs))
        if made.op == "add" and self._shapes[names[0]] != self._shapes[names[1]]:
            raise self._unknown(node)
        self._append(node, made, names, _shape_of(node, self._shapes[names[0]]))

    def _append(self, node: fx.Node, made: Node, names: tuple[str, ...], shape: Shape) -> None:
        self._nodes[made.name] = replace(made, inputs=names)
        self._shapes[made.name] = shape
        self._names[node] = made.name

    def _convolve(self, node: fx.Node, layer: nn.Conv2d) -> None:
        kernel, stride, groups = layer.kernel_size[0], layer.stride[0], layer.groups
        plain = (
            layer.kernel_size == (kernel, kernel)
            and layer.stride == (stride, stride)
            and layer.padding == (kernel // 2, kernel // 2)
            and layer.dilation == (1, 1)
            and layer.padding_mode == "zeros"
            and kernel % 2 == 1
        )
        if not plain:
            raise self._unknown(node)
        depthwise = 1 < groups == layer.in_channels == layer.out_channels
        made = Node(
            "depthwise" if depthwise else "conv2d",
            node.name,
            (),
            kernel=kernel,
            stride=stride,
            padding=kernel // 2,
            groups=groups,
            bias="none" if layer.bias is None else "bias",
        )
        self._layers[node.name] = layer
        self._add(node, made)

    def _normalise(self, node: fx.Node, norm: nn.BatchNorm2d) -> None:
        source = node.args[0]
        name = self._source(node)
        alone = isinstance(source, fx.Node) and len(source.users) == 1
        weighted = name in self._layers and name not in self._norms
        if not (alone and weighted and norm.affine and norm.running_mean is not None):
            raise self._unknown(node)
        self._norms[name] = norm
        self._nodes[name] = replace(self._nodes[name], bias="batchnorm")
        self._names[node] = name

    def _linear(self, node: fx.Node, layer: nn.Linear) -> None:
        source = self._source(node)
        if layer.bias is None or layer.in_features != self._shapes[source].elements:
            raise self._unknown(node)
        self._layers[node.name] = layer
        made = Node("linear", node.name, (), bias="bias")
        self._append(node, made, (source,), Shape(1, 1, layer.out_features))

    def _pool(self, node: fx.Node, layer: nn.MaxPool2d | nn.AvgPool2d) -> None:
        kernel, stride, padding = (
            _only(v) for v in (layer.kernel_size, layer.stride, layer.padding)
        )
        if None in (kernel, stride, padding):
            raise self._unknown(node)
        assert kernel is not None
        assert stride is not None
        if isinstance(layer, nn.MaxPool2d):
            fits = padding == kernel // 2 and kernel % 2 == 1 and layer.dilation in (1, (1, 1))
            made = Node("max_pool", node.name, (), kernel, stride, kernel // 2)
        else:
            fits = padding == 0 and stride == kernel
            fits = fits and self._shapes[self._source(node)].height % kernel == 0
            made = Node("avg_pool", node.name, (), kernel, stride)
        if not fits or layer.ceil_mode:
            raise self._unknown(node)
        self._add(node, made)

    def _scale(self, node: fx.Node) -> None:
        """A product of features (HxWxC) and a gate (1x1xC), in either order."""
        names = [self._source(node, place) for place in (0, 1)]
        names.sort(key=lambda name: -self._shapes[name].elements)
        features, gate = (self._shapes[name] for name in names)
        if gate != Shape(1, 1, features.channels):
            raise self._unknown(node)
        self._append(node, Node("mul", node.name, ()), (names[0], names[1]), features)

    def _is_global_pool(self, node: fx.Node, what: Any) -> bool:
        if what in (torch.mean, "mean"):
            dimensions = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
            return dimensions in ([2, 3], (2, 3), [-2, -1], (-2, -1), [-1, -2], (-1, -2))
        shape = getattr(node.meta.get("tensor_meta"), "shape", ())
        return what in _GLOBAL and tuple(shape[2:]) == (1, 1)

    def _unknown(self, node: fx.Node) -> ModelError:
        layer = self._modules.get(str(node.target)) if node.op == "call_module" else None
        told = f"'{node.target}': {layer}" if layer is not None else f"'{node.name}'"
        return ModelError(
            f"the module is left alone: it has {printable_line(told)[:120]}, which lutra cannot"
            " follow"
        )


def _shape_of(node: fx.Node, before: Shape) -> Shape:
    """Of a feature map as torch saw it: (1, C, H, W), or (1, C) behind a flattening."""
    shape = tuple(node.meta["tensor_meta"].shape)
    if len(shape) == 4:
        return Shape(shape[2], shape[3], shape[1])
    return before if before.elements == shape[1] else Shape(1, 1, shape[1])


def _only(value: int | tuple[int, int]) -> int | None:
    """A size that is the same along both axes; None where it is not."""
    if isinstance(value, int):
        return value
    return value[0] if value[0] == value[1] else None


def _starts_at_channels(node: fx.Node, layer: nn.Module | None) -> bool:
    if isinstance(layer, nn.Flatten):
        return (layer.start_dim, layer.end_dim) == (1, -1)
    given = (*node.args[1:], *node.kwargs.values())
    return tuple(given) in ((1,), (1, -1))
