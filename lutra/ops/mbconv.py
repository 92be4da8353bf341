"""The mobile inverted bottleneck block of MobileNetV2/V3, ProxylessNAS and OFA."""

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
from lutra.ops.shapes import Shape, make_divisible


@register_kind
@dataclass(frozen=True)
class MBConv(OpConfig):
    """1x1 expansion, kxk depthwise, squeeze-and-excitation (``se``), 1x1 projection, shortcut.

    ``mid_channels`` equal to the input's channels means that there is no expansion layer, as in
    the first block of these networks. Squeeze-and-excitation follows the depthwise activation and
    reduces to ``make_divisible(mid / 4)`` channels.
    """

    kind: ClassVar[str] = "mbconv"

    out_channels: int
    mid_channels: int
    kernel: int
    stride: int
    activation: Activation
    se: bool
    residual: bool

    def __post_init__(self) -> None:
        checked_range("output channels", self.out_channels, MAX_CHANNELS)
        checked_range("mid", self.mid_channels, MAX_CHANNELS)
        checked_window(self.kernel, self.stride)
        if self.residual and self.input_shape != self.output_shape:
            raise ValueError("res = 1 needs equal input and output shapes")

    @property
    def output_shape(self) -> Shape:
        return self.input_shape.strided(self.stride, self.out_channels)

    def attributes(self) -> dict[str, int | str]:
        return {
            "mid": self.mid_channels,
            "k": self.kernel,
            "s": self.stride,
            "act": self.activation,
            "se": int(self.se),
            "res": int(self.residual),
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
            se=checked_flag(attributes["se"]),
            residual=checked_flag(attributes["res"]),
        )

    def expand(self, builder: GraphBuilder, source: str) -> str:
        current = source
        if self.mid_channels != self.input_shape.channels:
            current = builder.conv(
                current, self.mid_channels, name="expand", activation=self.activation
            )
        current = builder.conv(
            current,
            self.mid_channels,
            name="depthwise",
            kernel=self.kernel,
            stride=self.stride,
            groups=self.mid_channels,
            activation=self.activation,
        )
        if self.se:
            current = self._squeeze_and_excite(builder, current)
        current = builder.conv(current, self.out_channels, name="project")
        return builder.add(current, source) if self.residual else current

    def _squeeze_and_excite(self, builder: GraphBuilder, features: str) -> str:
        reduced = make_divisible(self.mid_channels // 4)
        gate = builder.global_pool(features, name="se.pool")
        gate = builder.conv(gate, reduced, name="se.reduce", bias="bias", activation="relu")
        gate = builder.conv(
            gate, self.mid_channels, name="se.expand", bias="bias", activation="h_sigmoid"
        )
        return builder.mul(features, gate, name="se.scale")
