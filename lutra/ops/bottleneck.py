"""The residual bottleneck of ResNet-D, as in OFA-ResNet50D."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from lutra.ops.config import (
    MAX_CHANNELS,
    OpConfig,
    checked_activation,
    checked_flag,
    checked_range,
    checked_window,
    register_kind,
)
from lutra.ops.graph import Activation, GraphBuilder
from lutra.ops.shapes import Shape


@register_kind
@dataclass(frozen=True)
class Bottleneck(OpConfig):
    """Convolutions 1x1, kxk and 1x1, added to a shortcut.

    With ``downsample`` the shortcut is average pooling, where the stride is above 1, and a 1x1.
    """

    kind: ClassVar[str] = "bottleneck"

    out_channels: int
    mid_channels: int
    kernel: int
    stride: int
    activation: Activation
    downsample: bool

    def __post_init__(self) -> None:
        checked_range("output channels", self.out_channels, MAX_CHANNELS)
        checked_range("mid", self.mid_channels, MAX_CHANNELS)
        checked_window(self.kernel, self.stride)
        if not self.downsample and self.input_shape != self.output_shape:
            raise ValueError("down = 0 needs equal input and output shapes")

    @property
    def output_shape(self) -> Shape:
        return self.input_shape.strided(self.stride, self.out_channels)

    def attributes(self) -> dict[str, int | str]:
        return {
            "mid": self.mid_channels,
            "k": self.kernel,
            "s": self.stride,
            "act": self.activation,
            "down": int(self.downsample),
        }

    @classmethod
    def from_attributes(
        cls, input_shape: Shape, output_shape: Shape, attributes: Mapping[str, str]
    ) -> Self:
        return cls(
            input_shape,
            output_shape.channels,
            mid_channels=int(attributes["mid"]),
            kernel=int(attributes["k"]),
            stride=int(attributes["s"]),
            activation=checked_activation(attributes["act"]),
            downsample=checked_flag(attributes["down"]),
        )

    def expand(self, builder: GraphBuilder, source: str) -> str:
        current = builder.conv(source, self.mid_channels, name="reduce", activation=self.activation)
        current = builder.conv(
            current,
            self.mid_channels,
            name="conv",
            kernel=self.kernel,
            stride=self.stride,
            activation=self.activation,
        )
        current = builder.conv(current, self.out_channels, name="expand")
        current = builder.add(current, self._shortcut(builder, source))
        return builder.activation(current, self.activation)

    def _shortcut(self, builder: GraphBuilder, source: str) -> str:
        if not self.downsample:
            return source
        if self.stride > 1:
            source = builder.avg_pool(source, stride=self.stride, name="shortcut.pool")
        return builder.conv(source, self.out_channels, name="shortcut.conv")
