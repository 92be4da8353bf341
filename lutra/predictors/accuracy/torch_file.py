"""Reading a PyTorch file of an accuracy predictor that anyone may have written.

Nothing in it is executed, and what would exhaust memory or the stack is refused before torch reads
it.
"""

from __future__ import annotations

import pickletools
from collections.abc import Mapping
from io import BytesIO
from typing import Any
from zipfile import ZIP_STORED, ZipFile

from lutra.errors import AccuracyError

MAX_PICKLE_BYTES = 64 << 10  # the structure without the weights: about 1 KB
_LEGACY_PICKLES = 5  # magic number, version, system, state dict, storage keys


def read_state_dict(data: bytes, source: str) -> Mapping[str, Any]:
    """The parameters by name, without executing anything."""
    import torch

    _check_structure(data, source)
    try:
        state = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # hostile bytes make torch raise anything
        raise AccuracyError(
            f"{source} is no PyTorch file of plain weights: it is damaged, or it holds code,"
            " which lutra does not run; download it again from its publisher"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise AccuracyError(f"{source} holds no named parameters; it is no accuracy predictor")
    return state


def _check_structure(data: bytes, source: str) -> None:
    """Refuse what would exhaust memory or the stack while torch reads it.

    Those are archives that inflate (torch.save compresses nothing) and pickles much larger than
    a predictor's (deep nesting ends the process instead of raising).
    """
    try:
        if data[:4] == b"PK\x03\x04":
            _check_archive(data)
        else:
            _check_pickles(data, _LEGACY_PICKLES)
    except Exception as error:  # hostile bytes make the readers raise anything
        raise AccuracyError(
            f"{source} is no PyTorch file of an accuracy predictor: it is damaged, incomplete or"
            " of another kind; download it again from its publisher"
        ) from error


def _check_archive(data: bytes) -> None:
    """Raise `ValueError` for members that are compressed, too large, or large pickles."""
    with ZipFile(BytesIO(data)) as archive:
        members = archive.infolist()
        if any(member.compress_type != ZIP_STORED for member in members):
            raise ValueError("compressed members")
        if sum(member.file_size for member in members) > len(data):
            raise ValueError("overlapping members")
        for member in members:
            if member.filename.endswith(".pkl"):
                _check_pickles(archive.read(member), 1)


def _check_pickles(data: bytes, count: int) -> None:
    """Raise `ValueError` unless ``count`` pickles end within the size limit."""
    stream = BytesIO(data[:MAX_PICKLE_BYTES])
    for _ in range(count):
        for _ in pickletools.genops(stream):
            pass
