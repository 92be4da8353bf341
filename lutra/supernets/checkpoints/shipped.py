"""The supernets that come with lutra: weights beside this module, by the name of their space."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

_FOLDER = "weights"


def shipped_checkpoint(space: str) -> Path | None:
    """The checkpoint of a space that comes with lutra; None where there is none.

    >>> shipped_checkpoint("ofa-mbv3-fashion").name
    'ofa-mbv3-fashion.pth'
    """
    path = Path(str(resources.files(__package__) / _FOLDER / f"{space}.pth"))
    return path if path.is_file() else None
