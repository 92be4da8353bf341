"""What a file is, by its content: none of ours is written over a file that is something else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lutra.errors import UsageError

RESULT_FORMAT = "lutra-search-result"
FRONT_FORMAT = "lutra-front"
CURVE_FORMAT = "lutra-search-curve"
FRONT_CSV = "accuracy_percent,latency_ms,"
_SEEN_BYTES = 1 << 20
_ONNX_NEXT_FIELDS = b"\x12\x1a\x22\x2a\x32\x3a\x42\x72"  # behind ir_version; onnx.proto's numbers
_TORCH_NAMED = 1000
_SVG_NAMED = _REPORT_SEEN = 1000
_PICTURE_NAMED = 3000


@dataclass(frozen=True)
class FileKind:
    """What lutra writes; ``is_one`` tells by a file's first bytes (a MiB) whether it is that."""

    name: str
    is_one: Callable[[bytes], bool]


def _is_torch(data: bytes, first_key: bytes = b"") -> bool:
    """Whether it is a file of `torch.save`, of a dictionary with that key first."""
    head = data[:_TORCH_NAMED]
    return head.startswith(b"PK\x03\x04") and b"/data.pkl" in head and first_key in head


# As it is written: a document with a result in it, or one about results, is something else.
_RESULT = re.compile(rf'\s*\{{\s*"format"\s*:\s*"{RESULT_FORMAT}"'.encode())
_OFA_CONFIG = re.compile(rb'\s*\{\s*"(?:ks|e|d|w)"\s*:\s*\[')
_ADDITIVE = re.compile(rb'\s*\{\s*"format"\s*:\s*"lutra-additive-accuracy"')
_MLP_NAMED = 1000
_OLDEST_ONNX = 3  # of 2017; TensorFlow's saved models begin like a version 1

TABLE = FileKind("a latency table", lambda data: data.startswith(b"SQLite format 3\0"))
RESULT = FileKind("a search result", lambda data: _RESULT.match(data) is not None)
CURVE = FileKind(
    "a search's curve",
    lambda data: data.startswith(f'{{"format": "{CURVE_FORMAT}"'.encode()),
)
OFA_CONFIG = FileKind("an OFA config", lambda data: _OFA_CONFIG.match(data) is not None)
ACCURACY = FileKind(
    "an accuracy model",
    lambda data: (
        _ADDITIVE.match(data) is not None
        or (data.startswith(b"PK\x03\x04") and b"lutra_ofa_mlp" in data[:_MLP_NAMED])
    ),
)
MODELS = {
    "onnx": FileKind(
        "an ONNX model",
        lambda data: (
            data[:1] == b"\x08"
            and data[2:3] != b""
            and data[1] >= _OLDEST_ONNX
            and data[2] in _ONNX_NEXT_FIELDS
        ),
    ),
    "tflite": FileKind("a TFLite model", lambda data: data[4:8] == b"TFL3"),
    "torch": FileKind("a torch model", lambda data: _is_torch(data, b"lutra_torch")),
}

PACK = FileKind("a pack", lambda data: data.startswith(b"LUTRAPK"))
TORCH_FILE = FileKind("a torch file", lambda data: _is_torch(data))
NETWORK = FileKind("one network's weights", lambda data: _is_torch(data, b"lutra_network"))
TRAINING = FileKind("the state of a training", lambda data: _is_torch(data, b"lutra_training"))
# Published ones do not say it.
SUPERNET = FileKind(
    "a supernet's weights",
    lambda data: (
        _is_torch(data)
        and not any(kind.is_one(data) for kind in (NETWORK, TRAINING, MODELS["torch"]))
    ),
)

# What pictures say of themselves; another program's picture is not replaced.
PICTURE_BY = "Made by lutra"
PICTURES = {  # by suffix
    ".svg": FileKind(
        "an SVG picture of lutra's",
        lambda data: b"<svg" in data[:_SVG_NAMED] and PICTURE_BY.encode() in data[:_PICTURE_NAMED],
    ),
    ".png": FileKind(
        "a PNG picture of lutra's",
        lambda data: (
            data.startswith(b"\x89PNG\r\n\x1a\n") and PICTURE_BY.encode() in data[:_PICTURE_NAMED]
        ),
    ),
}
_FRONT = re.compile(rf'\s*\{{\s*"format"\s*:\s*"{FRONT_FORMAT}"'.encode())
FRONTS = {  # by suffix
    ".csv": FileKind("a front", lambda data: data.startswith(FRONT_CSV.encode())),
    ".json": FileKind("a front", lambda data: _FRONT.match(data) is not None),
    **PICTURES,
}
REPORT_NAMED = '<meta name="generator" content="lutra report'
REPORT = FileKind("a report", lambda data: REPORT_NAMED.encode() in data[:_REPORT_SEEN])

_OFA_TABLE = re.compile(rb'\s*\{?\s*"?\w+-input:\d')
_AN_EXPORT = "an exported table"
TABLE_EXPORTS = {  # by suffix
    ".csv": FileKind(_AN_EXPORT, lambda data: data.startswith(b"category,key,")),
    ".jsonl": FileKind(_AN_EXPORT, lambda data: data.startswith(b'{"category": ')),
    ".parquet": FileKind(_AN_EXPORT, lambda data: data.startswith(b"PAR1")),
    **dict.fromkeys(
        (".yaml", ".json"),
        FileKind(_AN_EXPORT, lambda data: _OFA_TABLE.match(data) is not None),
    ),
}


def is_there(path: Path) -> bool:
    """Whether there is a file; not where the system will not say, as of a name that is too long.

    (`Path.exists` raises there; what opens or makes the file says why it cannot.)
    """
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def is_of_kind(path: Path, kind: FileKind) -> bool:
    """Whether there is a regular file of a kind that can be read."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return kind.is_one(file.read(_SEEN_BYTES))
    except (OSError, ValueError):
        return False


def require_kind(path: Path, kind: FileKind) -> None:
    """Raise `UsageError` where writing a ``kind`` of file would lose one that is something else.

    Nothing is lost where there is no file, or an empty one. What cannot be read, or is a device
    or a pipe, is taken for something else.
    """
    if not is_there(path):
        return
    reason = _why_not(path, kind)
    if reason is not None:
        raise UsageError(
            f"{path} {reason}: {kind.name} is not written over it; name another file, or remove"
            " this one"
        )


def _why_not(path: Path, kind: FileKind) -> str | None:
    if not path.is_file():
        return "is no regular file"
    try:
        with path.open("rb") as file:
            data = file.read(_SEEN_BYTES)
    except OSError as problem:
        return f"cannot be read ({problem.strerror})"
    if not data or kind.is_one(data):
        return None
    return f"is {_kind_of(data) or 'a file of another kind'}"


def what_is(data: bytes) -> str | None:
    """In words what a file with this content is; None for nothing that is known."""
    return _kind_of(data[:_SEEN_BYTES]) if data else "an empty file"


def _kind_of(data: bytes) -> str | None:
    marked = FileKind(SUPERNET.name, lambda data: _is_torch(data, b"lutra_supernet"))
    known = (TABLE, RESULT, *MODELS.values(), NETWORK, TRAINING, marked, TORCH_FILE, PACK)
    return next((kind.name for kind in known if kind.is_one(data)), None)
