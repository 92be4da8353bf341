"""What a program is built for, read from its ELF header."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lutra.errors import UsageError

_ELF_MACHINES = {(2, 183): "arm64", (1, 40): "arm", (2, 62): "x86_64", (1, 3): "x86"}
_ANDROID_LINKERS = ("/system/", "/apex/")


def identify(path: Path | str) -> str:
    """What the program at ``path`` is built for, from its ELF header.

    A platform name such as ``android_arm64``; the processor alone (``arm64``) for a static
    program, which names no system; ``script`` for a text that begins with ``#!``, which fits
    every platform. Raises `UsageError` for any other file and for one that is cut off.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(64)
            if start.startswith(b"#!"):
                return "script"
            if not start.startswith(b"\x7fELF"):
                raise UsageError(f"{path} is no program (no ELF file)")
            return _identify_elf(file, start, path.stat().st_size)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except struct.error:
        raise UsageError(f"{path} is damaged or cut off") from None


def _identify_elf(file: IO[bytes], start: bytes, size: int) -> str:
    """The platform of an open ELF file; struct.error for one that is cut off."""
    elf_class, endian = start[4:6].ljust(2, b"\0")
    kind, number = struct.unpack_from("<HH", start, 16)
    machine = _ELF_MACHINES.get((elf_class, number))
    if endian != 1 or machine is None:
        raise UsageError(f"{file.name} is built for a processor that lutra does not know")
    if kind not in (2, 3):  # ET_EXEC, ET_DYN
        raise UsageError(f"{file.name} is an object or a core file, no program")
    linker = None
    for segment, offset, length in _segments(file, start, size, wide=elf_class == 2):
        if offset + length > size:
            raise struct.error("cut off")
        if segment == 3:  # PT_INTERP
            file.seek(offset)
            linker = file.read(min(length, 4096)).rstrip(b"\0").decode(errors="replace")
    if linker is None:
        return machine
    return f"{'android' if linker.startswith(_ANDROID_LINKERS) else 'linux'}_{machine}"


def _segments(
    file: IO[bytes], start: bytes, size: int, wide: bool
) -> Iterator[tuple[int, int, int]]:
    """Type, offset and length of each part that the program's header lists."""
    table_format, table_at, counts_at = ("<Q", 32, 54) if wide else ("<I", 28, 42)
    (table,) = struct.unpack_from(table_format, start, table_at)
    entry, count = struct.unpack_from("<HH", start, counts_at)
    if table + entry * count > size:
        raise struct.error("cut off")
    for index in range(count):
        file.seek(table + index * entry)
        header = file.read(entry)
        if wide:
            kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", header)
        else:
            kind, offset, _, _, length = struct.unpack_from("<IIIII", header)
        yield kind, offset, length
