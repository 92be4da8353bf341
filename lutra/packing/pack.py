"""Model files to packs and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lutra.errors import ModelError, UsageError
from lutra.files import check_output, read_bounded, write_atomically
from lutra.files.kinds import MODELS, PACK
from lutra.packing.arrays import places_in
from lutra.packing.coding import coded
from lutra.packing.container import MAGIC, MOST_BYTES, packed, unpacked

_TOO_LARGE = f"has more than {MOST_BYTES >> 20} MiB, which is the most that is packed"


@dataclass(frozen=True)
class PackedFile:
    """A pack and the model file that it is of, with their sizes in bytes."""

    path: Path
    model: Path
    pack_bytes: int
    model_bytes: int

    @property
    def ratio(self) -> float:
        """How many times smaller the pack is."""
        return self.model_bytes / self.pack_bytes

    def to_json(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "path": str(self.path),
            "model": str(self.model),
            "pack_bytes": self.pack_bytes,
            "model_bytes": self.model_bytes,
            "ratio": self.ratio,
        }


def pack(model: str | Path, path: str | Path) -> PackedFile:
    """Write a .tflite or .onnx file as a pack, of which `unpack` makes the very same file again.

    Weights are coded by Huffman's codes, clustered and sparse ones best; the rest by LZMA. It is
    the download that gets smaller: what is unpacked takes as much room and time as before. Raises
    `ModelError` for a file that is no such model, or above 256 MiB, `UsageError` where another
    kind of file would be lost, `ResultError` where the pack cannot be written.

    >>> pack("small.onnx", "small.lpk").ratio > 1
    True
    """
    model, path = Path(model), Path(path)
    check_output(path, PACK)
    content = read_bounded(model, MOST_BYTES, _TOO_LARGE, ModelError)
    if content.startswith(MAGIC):
        raise ModelError(f"{model} is a pack already: `lutra unpack` makes a model file of it")
    places = places_in(model, content)
    data = packed(model.suffix.lower().lstrip("."), content, places, coded(content, places))
    write_atomically(path, data, kind=PACK)
    return PackedFile(path, model, len(data), len(content))


def unpack(path: str | Path, model: str | Path) -> PackedFile:
    """Write the model file of a pack, the very bytes that were packed.

    Raises `ModelError` for a file that is no pack, of another version, damaged or not whole;
    nothing is written then. `UsageError` where ``model`` has the other format's suffix or another
    kind of file would be lost, `ResultError` where it cannot be written.

    >>> unpack(pack("small.onnx", "small.lpk").path, "again.onnx").model_bytes > 0
    True
    """
    path, model = Path(path), Path(model)
    data = read_bounded(path, 2 * MOST_BYTES, "is too large for a pack", ModelError)
    try:
        found = unpacked(data)
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from error
    if model.suffix.lower() != f".{found.format}":
        raise UsageError(f"{model}: the pack is of a .{found.format} file; name one")
    write_atomically(model, found.content, kind=MODELS[found.format])
    return PackedFile(path, model, len(data), len(found.content))
