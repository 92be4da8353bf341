"""Op configurations: the ops that a latency table has rows for, and their canonical keys.

A key reads ``kind/input-output/attribute=value/...``, for example
``mbconv/56x56x24-28x28x40/mid=96/k=5/s=2/act=relu/se=1/res=0``. Keys round-trip:
``parse_key(op.key) == op``, and two configurations are the same op exactly when their keys are
equal. Each kind lives in a file of its own and registers itself with `register_kind`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self, TypeVar

from lutra.errors import UsageError
from lutra.ops.graph import ACTIVATIONS, Activation, Bias, Graph, GraphBuilder
from lutra.ops.liveness import peak_activation_elements
from lutra.ops.shapes import Shape, parse_shape

MAX_CHANNELS = 1 << 16
MAX_KERNEL = 64
_MAX_KEY_LENGTH = 400


@dataclass(frozen=True)
class OpConfig(ABC):
    """One benchmarkable op; immutable, hashable, compared by value.

    MACs, parameters and bytes are those of the fp32 op at batch 1, taken from the graph that it
    expands to, so that what is counted is what is measured.
    """

    kind: ClassVar[str]

    input_shape: Shape

    @property
    @abstractmethod
    def output_shape(self) -> Shape:
        """The feature map that the op hands on."""

    @abstractmethod
    def attributes(self) -> dict[str, int | str]:
        """What the key says after the shapes, in the key's order."""

    @classmethod
    @abstractmethod
    def from_attributes(
        cls, input_shape: Shape, output_shape: Shape, attributes: Mapping[str, str]
    ) -> Self:
        """Build the op that a key describes; raises `UsageError` or `ValueError`."""

    @abstractmethod
    def expand(self, builder: GraphBuilder, source: str) -> str:
        """Append this op's nodes after ``source``; return the output feature map's name."""

    @cached_property
    def key(self) -> str:
        """The canonical, human-readable name of this op."""
        attributes = "".join(f"/{name}={value}" for name, value in self.attributes().items())
        return f"{self.kind}/{self.input_shape}-{self.output_shape}{attributes}"

    @cached_property
    def graph(self) -> Graph:
        """The op by itself."""
        return chain_graph([self])

    @cached_property
    def macs(self) -> int:
        return self.graph.macs

    @cached_property
    def params(self) -> int:
        return self.graph.params

    @cached_property
    def weight_bytes(self) -> int:
        return self.graph.weight_bytes

    @cached_property
    def activation_bytes(self) -> int:
        return self.graph.activation_bytes

    @cached_property
    def border_bytes(self) -> int:
        return self.graph.border_bytes

    @cached_property
    def peak_activation_elements(self) -> int:
        """The most feature-map elements alive at once while it runs; see `ops.liveness`."""
        return peak_activation_elements(self.graph)


_KINDS: dict[str, type[OpConfig]] = {}
_Kind = TypeVar("_Kind", bound=type[OpConfig])


def register_kind(kind: _Kind) -> _Kind:
    """Class decorator: make keys of this kind readable."""
    _KINDS[kind.kind] = kind
    return kind


def kinds() -> tuple[str, ...]:
    """The registered kinds, sorted."""
    return tuple(sorted(_KINDS))


def parse_key(key: str) -> OpConfig:
    """The op that a canonical key stands for.

    Raises `UsageError` when the key has an unknown kind, lacks or adds attributes, contradicts
    itself, or is not in canonical form.
    """
    if len(key) > _MAX_KEY_LENGTH:
        raise UsageError(f"op key of {len(key)} characters is too long: '{key[:60]}...'")
    kind_name, _, rest = key.partition("/")
    shapes, _, tail = rest.partition("/")
    kind = _KINDS.get(kind_name)
    if kind is None:
        raise UsageError(f"op key '{key}': unknown kind '{kind_name}'; known: {', '.join(kinds())}")
    source, dash, target = shapes.partition("-")
    if not dash:
        raise UsageError(
            f"op key '{key}': '{shapes}' is not input-output, such as 56x56x24-28x28x40"
        )
    try:
        op = kind.from_attributes(parse_shape(source), parse_shape(target), _attributes(tail))
    except (KeyError, ValueError) as error:
        raise UsageError(f"op key '{key}': bad or missing attribute: {error}") from error
    if op.key != key:
        raise UsageError(f"op key '{key}' is not canonical; its canonical form is '{op.key}'")
    return op


def _attributes(text: str) -> dict[str, str]:
    pairs = (item.partition("=") for item in text.split("/") if item)
    return {name: value for name, _, value in pairs}


def chain_graph(ops: Iterable[OpConfig]) -> Graph:
    """The graph of ops that follow one another, a whole network for example.

    Node names start with the op's position (``u03.expand``). Raises `ValueError` when an op's
    input is not its predecessor's output, or there is no op.
    """
    sequence = list(ops)
    if not sequence:
        raise ValueError("a chain needs at least one op")
    builder = GraphBuilder(sequence[0].input_shape)
    current = "input"
    for index, op in enumerate(sequence):
        if builder.shape(current) != op.input_shape:
            raise ValueError(f"op {index} ({op.key}) does not take {builder.shape(current)}")
        builder.scope(scope_of(index))
        current = op.expand(builder, current)
    return builder.build(current)


def scope_of(position: int) -> str:
    """What the names of an op's nodes start with in a chain's graph."""
    return f"u{position:02d}"


def checked_activation(text: str) -> Activation:
    """``text`` as an activation's name; raises `ValueError`."""
    for name in ACTIVATIONS:
        if text == name:
            return name
    raise ValueError(f"unknown activation '{text}'; known: {', '.join(ACTIVATIONS)}")


def checked_bias(text: str) -> Bias:
    """``text`` as a kind of bias; raises `ValueError`."""
    match text:
        case "none" | "bias" | "batchnorm":
            return text
    raise ValueError(f"unknown bias '{text}'; known: none, bias, batchnorm")


def checked_range(name: str, value: int, upper: int) -> None:
    """Raise `ValueError` unless 1 <= value <= upper."""
    if not 1 <= value <= upper:
        raise ValueError(f"{name} = {value} is outside 1..{upper}")


def checked_window(kernel: int, stride: int) -> None:
    """Raise `ValueError` unless a convolution's kernel is odd and both are in range."""
    checked_range("k", kernel, MAX_KERNEL)
    checked_range("s", stride, MAX_KERNEL)
    if kernel % 2 == 0:
        raise ValueError(f"k = {kernel} must be odd")


def checked_flag(text: str) -> bool:
    """``0`` or ``1`` as a bool; raises `ValueError`."""
    if text not in ("0", "1"):
        raise ValueError(f"'{text}' is not 0 or 1")
    return text == "1"
