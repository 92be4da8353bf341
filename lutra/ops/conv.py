"""A convolution with batch norm, bias or neither, an activation and perhaps a shortcut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from lutra.ops.config import (
    MAX_CHANNELS,
    OpConfig,
    checked_activation,
    checked_bias,
    checked_flag,
    checked_range,
    checked_window,
    register_kind,
)
from lutra.ops.graph import Activation, Bias, GraphBuilder
from lutra.ops.shapes import Shape


@register_kind
@dataclass(frozen=True)
class Conv(OpConfig):
    """Stems, heads and plain layers; the shortcut, if any, is added after the activation."""

    kind: ClassVar[str] = "conv"

    out_channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    activation: Activation = "none"
    bias: Bias = "batchnorm"
    residual: bool = False

    def __post_init__(self) -> None:
        checked_range("output channels", self.out_channels, MAX_CHANNELS)
        checked_window(self.kernel, self.stride)
        checked_range("g", self.groups, MAX_CHANNELS)
        if self.input_shape.channels % self.groups or self.out_channels % self.groups:
            raise ValueError(f"g = {self.groups} does not divide the channels")
        if self.residual and self.input_shape != self.output_shape:
            raise ValueError("res = 1 needs equal input and output shapes")

    @property
    def output_shape(self) -> Shape:
        return self.input_shape.strided(self.stride, self.out_channels)

    def attributes(self) -> dict[str, int | str]:
        return {
            "k": self.kernel,
            "s": self.stride,
            "g": self.groups,
            "act": self.activation,
            "bias": self.bias,
            "res": int(self.residual),
        }

    @classmethod
    def from_attributes(
        cls, input_shape: Shape, output_shape: Shape, attributes: Mapping[str, str]
    ) -> Self:
        return cls(
            input_shape,
            output_shape.channels,
            kernel=int(attributes["k"]),
            stride=int(attributes["s"]),
            groups=int(attributes["g"]),
            activation=checked_activation(attributes["act"]),
            bias=checked_bias(attributes["bias"]),
            residual=checked_flag(attributes["res"]),
        )

    def expand(self, builder: GraphBuilder, source: str) -> str:
        result = builder.conv(
            source,
            self.out_channels,
            name="conv",
            kernel=self.kernel,
            stride=self.stride,
            groups=self.groups,
            bias=self.bias,
            activation=self.activation,
        )
        return builder.add(result, source) if self.residual else result
