"""The classifier: a fully connected layer with bias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from lutra.ops.config import MAX_CHANNELS, OpConfig, checked_range, register_kind
from lutra.ops.graph import GraphBuilder
from lutra.ops.shapes import Shape


@register_kind
@dataclass(frozen=True)
class Linear(OpConfig):
    """Flattens its input and maps it to ``out_features`` numbers."""

    kind: ClassVar[str] = "linear"

    out_features: int

    def __post_init__(self) -> None:
        checked_range("output features", self.out_features, MAX_CHANNELS)

    @property
    def output_shape(self) -> Shape:
        return Shape(1, 1, self.out_features)

    def attributes(self) -> dict[str, int | str]:
        return {}

    @classmethod
    def from_attributes(
        cls, input_shape: Shape, output_shape: Shape, attributes: Mapping[str, str]
    ) -> Self:
        return cls(input_shape, output_shape.channels)

    def expand(self, builder: GraphBuilder, source: str) -> str:
        return builder.linear(source, self.out_features)
