"""A model file of the user's: what it is, or one line that says why it cannot be timed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lutra.emitters.onnx_file import (
    ExternalWeights,
    Shape,
    Shapes,
    as_one_file,
    external_weights,
    fixed_shapes,
    open_names,
    precision_of,
    read_onnx,
)
from lutra.emitters.tflite_reader import (
    MOST_TABLES,
    Contents,
    TooManyTablesError,
    read_contents,
)
from lutra.errors import ModelError, UsageError
from lutra.text import printable_line

_MAX_BYTES = 2 << 30  # protobuf and flatbuffers address no more
_MOST_SHARED = 2  # how many tensors share a weight on average; tied ones do
_TFLITE_IDENTIFIER = b"TFL3"
_PART_BYTES = 1 << 20


@dataclass(frozen=True)
class ModelFile:
    """A checked model file. ``precision`` is ``int8`` as soon as a layer has 8-bit weights.

    ``shapes`` are those of the inputs whose sizes the file leaves open: as given, in a .tflite file
    those that stand in for them, at which every runtime runs it; ``open_names`` is what
    they could be given for.
    """

    path: Path
    format: str
    precision: str
    digest: str
    shapes: tuple[tuple[str, Shape], ...] = ()
    open_names: frozenset[str] = frozenset()
    external: ExternalWeights | None = None

    @property
    def key(self) -> str:
        """The key of its row in a table: its name, the start of its digest, the shapes left open.

        The digest is of the content, with that of the files beside it that hold weights.
        """
        shapes = (f"/{name}={'x'.join(map(str, shape))}" for name, shape in self.shapes)
        return f"{self.path.name}@sha256:{self.digest[:12]}{''.join(shapes)}"

    @property
    def content(self) -> Path | Callable[[], bytes]:
        """The file to time, or what makes it where the given shapes are not those of the file."""
        if self.shapes_are_its_own:
            return self.path.absolute()
        return self._one_file

    @property
    def shapes_are_its_own(self) -> bool:
        """Whether it runs at ``shapes`` as it is."""
        return not self.shapes or self.format == "tflite"

    def content_alone(self) -> Path | Callable[[], bytes]:
        """`content`, with the weights in it that are kept beside it.

        Raises `ModelError` where that is more than one file holds, or far more than they hold.
        """
        if self.external is None:
            return self.content
        _, held, read = self.external
        if read > _MOST_SHARED * held:
            raise ModelError(
                f"{self.path}: its tensors read {read / 2**20:,.1f} MiB of weights from"
                f" {held / 2**20:,.1f} MiB beside it; save it with all weights in one file"
            )
        _require_size(self.path, self.path.stat().st_size + read)
        return self._one_file

    def _one_file(self) -> bytes:
        return as_one_file(self.path, dict(self.shapes))


def read_model_files(
    models: Sequence[ModelFile | str | Path], shapes: Shapes | None = None
) -> list[ModelFile]:
    """`read_model_file` of each; raises `UsageError` for a shape that none of them has room for."""
    given = shapes or {}
    for name, sizes in given.items():
        if not sizes or not all(type(size) is int and size > 0 for size in sizes):
            raise UsageError(f"--shape {name}: sizes are whole numbers above 0")
    files = [
        model if isinstance(model, ModelFile) else read_model_file(model, given) for model in models
    ]
    known = {name for file in files for name in file.open_names}
    has = f"they have {', '.join(sorted(known))}" if known else "only .onnx files have"
    for name in given:
        if name not in known:
            said = printable_line(f"no model has such an input or open size; {has}")
            raise UsageError(f"--shape {name}: {said}")
    return files


def read_model_file(path: str | Path, shapes: Shapes | None = None) -> ModelFile:
    """Look at an .onnx or .tflite file.

    ``shapes`` gives an .onnx file's inputs, or by their names single sizes, what it leaves open.
    Raises `ModelError` when it is missing, another kind of file, too large, damaged, or has inputs
    of open shape, and `UsageError` for a shape that contradicts it.
    """
    path = Path(path)
    readers = {".onnx": _read_onnx, ".tflite": _read_tflite}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ModelError(f"{path}: a model file ends in {' or '.join(readers)}")
    try:
        _require_size(path, path.stat().st_size)
        return reader(path, shapes or {})
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error


def _require_size(path: Path, size: int) -> None:
    if size > _MAX_BYTES:
        raise ModelError(f"{path} has {size / 2**30:.1f} GiB; model files have at most 2")


def _digest(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while part := file.read(_PART_BYTES):
                digest.update(part)
    return digest.hexdigest()


def _read_onnx(path: Path, given: Shapes) -> ModelFile:
    model = read_onnx(path)
    shapes = fixed_shapes(path, model, given)
    external = external_weights(path, model)
    file = ModelFile(
        path,
        "onnx",
        precision_of(model),
        _digest([path, *(external.files if external else ())]),
        tuple(shapes.items()),
        open_names(model),
        external,
    )
    if shapes:
        file.content_alone()  # raises where it cannot be written into one file
    return file


def _read_tflite(path: Path, _: Shapes) -> ModelFile:
    contents = read_tflite_contents(path)
    for name, shape in contents.open_inputs:
        if min(shape, default=0) < 1:
            raise ModelError(
                f"{path}: input '{printable_line(name)}' leaves sizes open and says none to run it"
                " at; convert it with fixed ones"
            )
    precision, shapes = _tflite_precision(contents), tuple(contents.open_inputs)
    return ModelFile(path, "tflite", precision, _digest([path]), shapes)


def read_tflite_contents(path: Path) -> Contents:
    """What a .tflite file holds; raises `ModelError` for what is none or far too large, OSError."""
    content = path.read_bytes()
    damaged = f"{path} is no .tflite model, or it is damaged"
    if content[4:8] != _TFLITE_IDENTIFIER:
        raise ModelError(damaged)
    try:
        return read_contents(content)
    except TooManyTablesError:
        raise ModelError(
            f"{path} has more than {MOST_TABLES:,} tensors and operators;"
            " no network that can be timed here has as many"
        ) from None
    except Exception as error:  # the schema's reader fails in as many ways as a file can lie
        raise ModelError(damaged) from error


def _tflite_precision(contents: Contents) -> str:
    from ai_edge_litert.schema_py_generated import TensorType

    if {TensorType.INT8, TensorType.UINT8, TensorType.INT4} & contents.weights:
        return "int8"
    return "fp16" if TensorType.FLOAT16 in contents.everything else "fp32"
