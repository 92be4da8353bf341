"""Pooling layers that stand by themselves: the stem's max pooling, the head's global average."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from lutra.ops.config import MAX_KERNEL, OpConfig, checked_range, register_kind
from lutra.ops.graph import GraphBuilder
from lutra.ops.shapes import Shape

Pooling = Literal["global", "max"]


@register_kind
@dataclass(frozen=True)
class Pool(OpConfig):
    """``global`` averages over the whole map (kernel and stride are 1); ``max`` has a window."""

    kind: ClassVar[str] = "pool"

    pooling: Pooling
    kernel: int = 1
    stride: int = 1

    def __post_init__(self) -> None:
        checked_range("k", self.kernel, MAX_KERNEL)
        checked_range("s", self.stride, MAX_KERNEL)
        if self.pooling == "global" and (self.kernel, self.stride) != (1, 1):
            raise ValueError("global pooling takes no kernel or stride; write k=1/s=1")
        if self.pooling == "max" and self.kernel % 2 == 0:
            raise ValueError(f"k = {self.kernel} must be odd")

    @property
    def output_shape(self) -> Shape:
        channels = self.input_shape.channels
        if self.pooling == "global":
            return Shape(1, 1, channels)
        return self.input_shape.strided(self.stride, channels)

    def attributes(self) -> dict[str, int | str]:
        return {"op": self.pooling, "k": self.kernel, "s": self.stride}

    @classmethod
    def from_attributes(
        cls, input_shape: Shape, output_shape: Shape, attributes: Mapping[str, str]
    ) -> Self:
        return cls(
            input_shape,
            _checked_pooling(attributes["op"]),
            kernel=int(attributes["k"]),
            stride=int(attributes["s"]),
        )

    def expand(self, builder: GraphBuilder, source: str) -> str:
        if self.pooling == "global":
            return builder.global_pool(source)
        return builder.max_pool(source, kernel=self.kernel, stride=self.stride)


def _checked_pooling(text: str) -> Pooling:
    match text:
        case "global" | "max":
            return text
    raise ValueError(f"unknown pooling '{text}'; known: global, max")
