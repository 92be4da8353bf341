"""Reading files of others within bounds, and writing ours so that they are old or new, never half.

Errors of the file system become the caller's own kind of error, with the file's name.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lutra.errors import LutraError, ResultError

MAX_JSON_BYTES = 16 << 20
_DEEPEST_JSON = 50  # ours has six levels


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
        return parse_json(data)
    except ValueError as problem:
        raise error(f"{path} is not valid JSON: {problem}") from problem


def parse_json(text: str | bytes) -> Any:
    """The document in JSON of others; raises ValueError for none, or one that is nested deeply.

    What looks into a document, prints or stores it goes a call deeper with each of its levels.
    """
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [document]
    for _ in range(_DEEPEST_JSON):
        level = [inner for item in level for inner in _inside(item)]
        if not level:
            return document
    raise ValueError("it is nested too deeply")


def _inside(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()
