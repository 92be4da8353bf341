"""From a graph to the model file that a runtime deploys: which format, at which precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module

from lutra.emitters.quantization import Range
from lutra.errors import ModelError, UsageError
from lutra.ops import Graph, Weights, seeded_weights

# What each format can express; its emitter is `lutra.emitters.FORMAT.emit_FORMAT`.
FORMATS: dict[str, tuple[str, ...]] = {
    "onnx": ("fp32", "fp16", "int8"),
    "tflite": ("fp32", "fp16", "int8"),
    "torch": ("fp32", "fp16", "bf16"),
}


@dataclass(frozen=True)
class Emission:
    """How graphs become model files: ``format`` is also the files' suffix.

    Raises `UsageError` for an unknown format or a precision that it cannot express.
    """

    format: str = "onnx"
    precision: str = "fp32"
    batch: int = 1

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UsageError(f"unknown format '{self.format}'; known: {', '.join(FORMATS)}")
        if self.precision not in FORMATS[self.format]:
            known = ", ".join(FORMATS[self.format])
            tf32 = self.precision == "tf32"
            hint = ". TF32 is a way to compute fp32: --option tf32=on" if tf32 else ""
            raise UsageError(
                f"precision '{self.precision}' is not available as {self.format};"
                f" known: {known}{hint}"
            )

    @property
    def feature_bytes(self) -> int:
        """Bytes of one element of a feature map; TFLite keeps only the weights in halves."""
        if self.format == "tflite" and self.precision == "fp16":
            return 4
        return {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}[self.precision]

    def emit(
        self,
        graph: Graph,
        weights: Weights,
        metadata: Mapping[str, str] | None = None,
        ranges: Mapping[str, Range] | None = None,
    ) -> bytes:
        """The graph's model file; raises `ModelError` for an op that the format lacks.

        ``ranges`` are those of the feature maps in 8 bits, in place of what random inputs show;
        other precisions have no use for them.
        """
        module = import_module(f"lutra.emitters.{self.format}")
        for node in graph.nodes:
            if node.op not in module.OPS:
                raise ModelError(
                    f"node {node.name}: '{node.op}' cannot be written as {self.format}"
                )
        given = {"ranges": ranges} if self.precision == "int8" else {}
        emitted = getattr(module, f"emit_{self.format}")(
            graph, weights, precision=self.precision, batch=self.batch, metadata=metadata, **given
        )
        assert isinstance(emitted, bytes)
        return emitted

    def builder(self, graph: Callable[[], Graph]) -> Callable[[], bytes]:
        """A function that makes the file with seeded weights; the graph is made when called."""

        def build() -> bytes:
            expanded = graph()
            return self.emit(expanded, seeded_weights(expanded))

        return build
