"""Reading files of others within bounds, and writing ours so that they are old or new, never half.

Errors of the file system become the caller's own kind of error, with the file's name.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lutra.errors import LutraError, ResultError

MAX_JSON_BYTES = 16 << 20


@contextmanager
def replacing(
    path: Path, error: type[LutraError], *, permissions: int = 0o644
) -> Iterator[IO[bytes]]:
    """A temporary file beside ``path`` to write to; it takes that name when the block ends well.

    ``name`` of the file is its own path until then. An exception in the block leaves ``path`` as it
    was and nothing beside it. Raises ``error`` for what the file system refuses.
    """
    try:
        with tempfile.NamedTemporaryFile(
            prefix=f".{path.name}.", dir=path.parent, delete=False
        ) as file:
            temporary = Path(file.name)
            try:
                yield file
                file.flush()
                temporary.chmod(permissions)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as problem:
        raise error(f"cannot write {path}: {problem.strerror or problem}") from problem


def write_atomically(path: Path, data: bytes, error: type[LutraError] = ResultError) -> None:
    """Write a whole file; raises ``error``."""
    with replacing(path, error) as file:
        file.write(data)


def read_bounded(path: Path, max_bytes: int, too_large: str, error: type[LutraError]) -> bytes:
    """A file's content; raises ``error``, with the reason ``too_large`` beyond ``max_bytes``."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}") from problem
    if len(data) > max_bytes:
        raise error(f"{path} {too_large}")
    return data


def read_json(path: Path, error: type[LutraError] = ResultError) -> Any:
    """The JSON document in a file of bounded size; raises ``error``."""
    data = read_bounded(path, MAX_JSON_BYTES, "is too large for a JSON file of lutra", error)
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError) as problem:
        raise error(f"{path} is not valid JSON: {problem}") from problem
