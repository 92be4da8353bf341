"""Reading a PyTorch file of named parameters that anyone may have written.

torch has no part in it: its own reader ends the process on some files. Both forms are read, the
archive of today and the row of pickles from before torch 1.6, which OFA's authors publish. Nothing
in a file is executed, and no size that it states is believed before it is compared with what the
file holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import numpy.typing as npt

from lutra.errors import LutraError
from lutra.files.kinds import TORCH_FILE, what_is
from lutra.files.plain_pickle import Call, read_pickle

# The structure without the weights: 1 KB of a predictor, 120 KB of a supernet.
MAX_PICKLE_BYTES = 1 << 20
_MAX_MEMBERS = 4000  # of an archive; a predictor has about 20, a supernet 480
_DIRECTORY_ENTRY = b"PK\x01\x02"
_LARGEST_NUMBER = (1 << 63) - 1
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


@dataclass
class Storage:
    """A row of numbers: how many of which type, and the bytes that they are in."""

    dtype: np.dtype[Any]
    count: int
    data: bytes = b""


@dataclass(frozen=True)
class Tensor:
    """Where an array's numbers stand in a storage; nothing is copied before it is asked for."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def is_float(self) -> bool:
        """Whether it holds floating-point numbers."""
        return self.storage.dtype.kind == "f"

    def array(self) -> npt.NDArray[np.float32]:
        """A copy as float32, beyond its range infinite; raises ValueError beyond the storage."""
        sizes = zip(self.shape, self.strides, strict=True)
        steps = [stride if size > 1 else 0 for size, stride in sizes]
        last = sum((size - 1) * step for size, step in zip(self.shape, steps, strict=True))
        if self.offset + last >= self.storage.count:
            raise ValueError("it reaches beyond what is stored")
        numbers = np.frombuffer(self.storage.data, self.storage.dtype)[self.offset :]
        strides = [step * numbers.itemsize for step in steps]
        view = np.lib.stride_tricks.as_strided(numbers, self.shape, strides, writeable=False)
        with np.errstate(over="ignore", invalid="ignore"):
            return view.astype(np.float32, order="C")


def read_torch_file(
    data: bytes, source: str, what: str, error: type[LutraError]
) -> Mapping[str, object]:
    """The dictionary in a file; arrays in it are `Tensor`, the rest is plain data.

    Raises ``error``, which says of ``source`` that it is no ``what``.
    """
    try:
        state = _from_archive(data) if data[:4] == b"PK\x03\x04" else _from_pickles(data)
    except Exception as problem:  # hostile bytes make the readers raise anything
        found = None if TORCH_FILE.is_one(data) else what_is(data)
        if found is not None:
            raise error(f"{source} is {found}, not {what}") from problem
        raise error(
            f"{source} is no PyTorch file of {what}: it is damaged, incomplete, of another kind,"
            " or it holds code, which lutra does not run; download it again from its publisher"
        ) from problem
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise error(f"{source} holds no named parameters; it is not {what}")
    return state


def parameters_in(state: Mapping[str, object]) -> Mapping[str, object]:
    """The parameters by name of a file that may have them under ``state_dict``."""
    inner = state.get("state_dict")
    return inner if isinstance(inner, dict) and all(isinstance(n, str) for n in inner) else state


class _Storages(dict[str, Storage]):
    """The storages that a pickle speaks of, by key; their numbers stand elsewhere in the file."""

    def identified(self, identity: object) -> Storage:
        """The storage of an id: its type, its key, the device that it was on, its length."""
        match identity:
            case ("storage", np.dtype() as dtype, str(key), _, int(count), *rest):
                storage = self.setdefault(key, Storage(dtype, count))
                if storage == Storage(dtype, count) and count >= 0 and rest in ([], [None]):
                    return storage
        raise ValueError("no storage")

    def require_whole(self) -> None:
        """Raise ValueError unless each has the bytes that it needs."""
        for storage in self.values():
            if len(storage.data) != storage.count * storage.dtype.itemsize:
                raise ValueError("a storage is not whole")


def _tensor(storage: object, offset: object, shape: object, strides: object, *_: object) -> Tensor:
    """What torch calls `_rebuild_tensor_v2`; the rest are gradients and hooks."""
    if not (
        isinstance(storage, Storage)
        and isinstance(offset, int)
        and isinstance(shape, tuple)
        and isinstance(strides, tuple)
        and len(shape) == len(strides)
        and all(
            type(number) is int and 0 <= number <= _LARGEST_NUMBER
            for number in (offset, *shape, *strides)
        )
    ):
        raise ValueError("no tensor")
    return Tensor(storage, offset, shape, strides)


def _parameter(tensor: object, *_: object) -> object:
    """What torch calls `_rebuild_parameter`: the tensor, and whether it is trained."""
    return tensor


_NAMES: dict[str, object] = {
    "collections OrderedDict": Call(lambda: {}),
    "torch._utils _rebuild_tensor_v2": Call(_tensor),
    "torch._utils _rebuild_parameter": Call(_parameter),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch FloatStorage": np.dtype("<f4"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch LongStorage": np.dtype("<i8"),
    "torch IntStorage": np.dtype("<i4"),
    "torch ShortStorage": np.dtype("<i2"),
    "torch CharStorage": np.dtype("i1"),
    "torch ByteStorage": np.dtype("u1"),
    "torch BoolStorage": np.dtype("?"),
}


def _from_archive(data: bytes) -> Any:
    """What a file of torch 1.6 and newer holds: a zip archive in which nothing is compressed."""
    if data.count(_DIRECTORY_ENTRY) > _MAX_MEMBERS:
        raise ValueError("too many members")
    with ZipFile(BytesIO(data)) as archive:
        members = archive.infolist()
        if any(member.compress_type != ZIP_STORED for member in members):
            raise ValueError("compressed members")
        if sum(member.file_size for member in members) > len(data):
            raise ValueError("overlapping members")
        (pickled,) = [item for item in members if item.filename.endswith("/data.pkl")]
        if pickled.file_size > MAX_PICKLE_BYTES:
            raise ValueError("a large pickle")
        root = pickled.filename.removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist():
            _require_little_endian(archive.read(f"{root}byteorder") == b"little")
        storages = _Storages()
        state = read_pickle(BytesIO(archive.read(pickled)), _NAMES, storages.identified)
        for key, storage in storages.items():
            storage.data = archive.read(f"{root}data/{key}")
    storages.require_whole()
    return state


def _from_pickles(data: bytes) -> Any:
    """What an older file holds: five pickles, then each storage's length and numbers."""
    stream, storages = BytesIO(data[:MAX_PICKLE_BYTES]), _Storages()
    magic, protocol, system, state, keys = (
        read_pickle(stream, _NAMES, storages.identified) for _ in range(5)
    )
    if (magic, protocol) != (_MAGIC, _PROTOCOL):
        raise ValueError("another kind of pickles")
    _require_little_endian(system["little_endian"] is True)
    position = stream.tell()
    for key in keys:
        if not isinstance(key, str):
            raise ValueError("a key that is no text")
        storage = storages[key]
        begin = position + 8
        if int.from_bytes(data[position:begin], "little") != storage.count:
            raise ValueError("a storage of another length")
        position = begin + storage.count * storage.dtype.itemsize
        storage.data = data[begin:position]
    storages.require_whole()
    return state


def _require_little_endian(little: bool) -> None:
    if not little:
        raise ValueError("of another byte order")
