"""What a run measures: an op, a whole network or a reference, and how to make its model file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from lutra.emitters.emission import Emission
from lutra.emitters.model_file import ModelFile
from lutra.errors import LutraError
from lutra.ops import Conv, MBConv, OpConfig, Shape
from lutra.spaces import Architecture, SearchSpace, get_space, parse_architecture
from lutra.tables.measurement import ANCHOR, MODEL, Category

# A compute-bound and a memory-bound op, and a whole network, whose weights come from a cache that
# others share: machines drift differently for each.
REFERENCE_OPS: tuple[OpConfig, ...] = (
    Conv(Shape(14, 14, 256), 256, activation="relu"),
    MBConv(Shape(112, 112, 16), 16, 16, 3, 1, activation="relu", se=False, residual=True),
)
REFERENCE_NETWORK = {"ks": [3] * 20, "e": [3] * 20, "d": [2] * 5, "r": 128}  # of ofa-mbv3-w1.0


@dataclass(frozen=True)
class Workload:
    """One thing to time; ``model`` is its file, or makes the file's bytes when first needed."""

    category: Category
    key: str
    model: Path | Callable[[], bytes] = field(compare=False, repr=False)
    role: str = ""


def op_workload(op: OpConfig, emission: Emission) -> Workload:
    """The workload of an op."""
    return Workload("op", op.key, emission.builder(lambda: op.graph))


def network_workload(
    space: SearchSpace, architecture: Architecture, role: str, emission: Emission
) -> Workload:
    """A whole network with seeded weights, to be measured."""
    build = emission.builder(lambda: space.graph(architecture))
    return Workload("network", architecture.key, build, role)


def model_workload(model: ModelFile, *, alone: bool = False) -> Workload:
    """A whole model file of the user's; ``alone``: without the files beside it, in one of its own.

    Raises `ModelError` where it cannot be one file.
    """
    return Workload("network", model.key, model.content_alone() if alone else model.content, MODEL)


def reference_workloads(emission: Emission, batch: int = 1) -> list[Workload]:
    """The references, which are re-timed all through a run to see the machine drift.

    Always fp32: they tell of the machine, and other kernels can be many times slower. One input
    at a time, unless the device is a large one that they would not fill.
    """
    plain = replace(emission, precision="fp32", batch=batch)
    return [replace(op_workload(op, plain), category="reference") for op in REFERENCE_OPS]


def reference_network(emission: Emission) -> Workload:
    """The reference that is a whole small network: an anchor between runs.

    Its weights come from a cache that others share. On an EPYC it took 1.1 times its best in the
    median visit and 1.5 times in every tenth, so no single visit is judged by it.
    """
    space = get_space("ofa-mbv3-w1.0")
    network = parse_architecture({"space": space.name, **REFERENCE_NETWORK})
    plain = replace(emission, precision="fp32", batch=1)
    return replace(network_workload(space, network, ANCHOR, plain), category="reference")


class ModelStore:
    """Model files in a folder, each written when it is first asked for."""

    def __init__(self, folder: Path, suffix: str = "onnx") -> None:
        self._folder = folder
        self._suffix = suffix
        self._paths: dict[Workload, Path] = {}

    def path(self, workload: Workload) -> Path:
        """The workload's model file.

        Raises `ModelError` when its format cannot express it, `LutraError` when it cannot be
        written.
        """
        if isinstance(workload.model, Path):
            return workload.model
        if workload not in self._paths:
            path = self._folder / f"{len(self._paths):05d}.{self._suffix}"
            try:
                path.write_bytes(workload.model())
            except OSError as error:
                raise LutraError(
                    f"cannot write model files to {self._folder}: {error.strerror};"
                    " set TMPDIR to a folder with more room"
                ) from error
            self._paths[workload] = path
        return self._paths[workload]
