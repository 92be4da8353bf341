"""The supernets that OFA's authors publish, fetched from where their own code fetches them.

Addresses are those of mit-han-lab/once-for-all, ``ofa/model_zoo.py`` (commit 27b50bd1). Their
digests are not published: a file's is recorded beside it when it is first fetched, and compared
later.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lutra.errors import CheckpointError, UsageError
from lutra.files import check_output, read_bounded, write_atomically
from lutra.files.kinds import SUPERNET
from lutra.files.locks import take
from lutra.files.resumed_download import Partial, Report
from lutra.spaces.registry import get_space
from lutra.supernets.checkpoints.checkpoint import MAX_FILE_BYTES, load_supernet, parse_checkpoint
from lutra.text import did_you_mean

_RAW = "https://raw.githubusercontent.com/han-cai/files/master/ofa/ofa_nets/"
_LARGE = "https://media.githubusercontent.com/media/han-cai/files/master/ofa/ofa_nets/"
_DIGEST = re.compile("[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class Published:
    """A supernet of the authors': their name for it, its space here, its address."""

    name: str
    space: str
    address: str


PUBLISHED = (
    Published(
        "ofa_mbv3_d234_e346_k357_w1.0", "ofa-mbv3-w1.0", f"{_RAW}ofa_mbv3_d234_e346_k357_w1.0"
    ),
    Published(
        "ofa_mbv3_d234_e346_k357_w1.2", "ofa-mbv3-w1.2", f"{_RAW}ofa_mbv3_d234_e346_k357_w1.2"
    ),
    Published(
        "ofa_proxyless_d234_e346_k357_w1.3",
        "ofa-proxyless-w1.3",
        f"{_RAW}ofa_proxyless_d234_e346_k357_w1.3",
    ),
    Published(
        "ofa_resnet50",
        "ofa-resnet50d",
        f"{_LARGE}ofa_resnet50_d0-1-2_e0.2-0.25-0.35_w0.65-0.8-1.0",
    ),
)


@dataclass(frozen=True)
class Fetched:
    """A checkpoint that was fetched, and read as one of its space.

    ``resumed_bytes`` of it had come before. ``recorded`` is the digest of the file that was there
    under this name before, where that was another one.
    """

    path: str
    address: str
    space: str
    sha256: str
    size_bytes: int
    resumed_bytes: int
    recorded: str | None

    def to_json(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def published(name: str) -> Published:
    """The authors' supernet of that name: theirs, or its space's. Raises `UsageError`."""
    for item in PUBLISHED:
        if name in (item.name, item.space):
            return item
    names = [item.space for item in PUBLISHED] + [item.name for item in PUBLISHED]
    raise UsageError(
        f"OFA's authors publish no supernet '{name}'; known: {', '.join(names[: len(PUBLISHED)])}"
        f"{did_you_mean(name, names)} (or give its space and --url)"
    )


def fetch_supernet(
    address: str,
    space: str,
    path: Path,
    *,
    sha256: str | None = None,
    max_bytes: int = MAX_FILE_BYTES,
    on_progress: Report = lambda received, expected, eta_seconds: None,
) -> Fetched:
    """Fetch a checkpoint, go on with one that was cut off; it is put in place when it is right.

    It must have the digest ``sha256``, where that is given, and be a supernet of the space. Its
    digest is written beside it (``FILE.sha256``, as sha256sum reads it). Raises `CheckpointError`
    for what could not be fetched or is something else, `UsageError` for an address that is not
    https (or this machine's) and where a file would be lost that is no torch file. A file that is
    read-only stays: `CheckpointError`.
    """
    get_space(space)
    if sha256 is not None and not _DIGEST.fullmatch(sha256):
        raise UsageError(f"'{sha256:.80}' is no SHA-256: 64 hexadecimal digits")
    target = Path(os.path.realpath(path))
    check_output(path, SUPERNET, CheckpointError)
    lock = take(f"fetch {target}")
    if isinstance(lock, str):
        raise CheckpointError(f"{path} is being fetched by {lock}")
    with lock:
        partial = Partial(address, target, CheckpointError)
        before = partial.complete(max_bytes, on_progress)
        data = read_bounded(partial.path, max_bytes, "is too large", CheckpointError)
        try:
            digest = _require(data, address, space, sha256)
        except CheckpointError:
            partial.discard()
            raise
        recorded = _recorded(target)
        _put_in_place(partial, target)
        write_atomically(_beside(target), f"{digest}  {target.name}\n".encode(), CheckpointError)
    other = recorded if recorded != digest else None
    return Fetched(str(path), address, space, digest, len(data), before, other)


def _require(data: bytes, address: str, space: str, sha256: str | None) -> str:
    """The digest of what came, once it is what was asked for."""
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256.lower():
        raise CheckpointError(
            f"{address} holds another file than was asked for: its SHA-256 is {digest}, not"
            f" {sha256.lower()}; it was removed"
        )
    load_supernet(parse_checkpoint(data, address), space)
    return digest


def _put_in_place(partial: Partial, target: Path) -> None:
    try:
        partial.path.replace(target)
    except OSError as problem:
        raise CheckpointError(f"cannot write {target}: {problem.strerror}") from problem
    partial.discard()


def _beside(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


def _recorded(target: Path) -> str | None:
    """The digest that an earlier fetch recorded."""
    try:
        text = _beside(target).read_bytes()[:64].decode("ascii")
    except (OSError, UnicodeDecodeError):
        return None
    return text if _DIGEST.fullmatch(text) else None
