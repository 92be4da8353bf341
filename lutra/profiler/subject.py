"""What a run measures: an op, a whole network or a reference, and how to make its model file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lutra.errors import LutraError
from lutra.ops import Conv, Graph, MBConv, OpConfig, Shape, seeded_weights
from lutra.tables.measurement import Category

# A compute-bound and a memory-bound block: machines drift differently for each.
REFERENCE_OPS: tuple[OpConfig, ...] = (
    Conv(Shape(14, 14, 256), 256, activation="relu"),
    MBConv(Shape(112, 112, 16), 16, 16, 3, 1, activation="relu", se=False, residual=True),
)


@dataclass(frozen=True)
class Subject:
    """One thing to time; ``build`` makes the model file's bytes when they are first needed."""

    category: Category
    key: str
    build: Callable[[], bytes] = field(compare=False, repr=False)
    role: str = ""


def onnx_builder(graph: Callable[[], Graph], batch: int) -> Callable[[], bytes]:
    """A builder of the graph's ONNX file with seeded weights; the graph is made when called."""

    def build() -> bytes:
        from lutra.profiler.emitters.onnx import emit_onnx

        expanded = graph()
        return emit_onnx(expanded, seeded_weights(expanded), batch=batch)

    return build


def op_subject(op: OpConfig, batch: int = 1) -> Subject:
    """A unit of a search space."""
    return Subject("op", op.key, onnx_builder(lambda: op.graph, batch))


def reference_subjects(batch: int = 1) -> list[Subject]:
    """The blocks that are re-timed all through a run to see the machine drift."""
    return [
        Subject("reference", op.key, onnx_builder(lambda op=op: op.graph, batch))  # type: ignore[misc]
        for op in REFERENCE_OPS
    ]


class ModelStore:
    """Model files in a folder, each written when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: dict[Subject, Path] = {}

    def path(self, subject: Subject) -> Path:
        """The subject's model file; raises `LutraError` when it cannot be written."""
        if subject not in self._paths:
            path = self._folder / f"{len(self._paths):05d}.onnx"
            try:
                path.write_bytes(subject.build())
            except OSError as error:
                raise LutraError(
                    f"cannot write model files to {self._folder}: {error.strerror};"
                    " set TMPDIR to a folder with more room"
                ) from error
            self._paths[subject] = path
        return self._paths[subject]
