"""A figure as a file of its own: SVG or PNG, by its suffix."""

from __future__ import annotations

import io
from pathlib import Path

from lutra.errors import UsageError
from lutra.files import check_output, write_atomically
from lutra.files.kinds import PICTURE_BY, PICTURES
from lutra.report.figures.drawing import Drawing, require_matplotlib, styled

_DPI = 200


def check_picture(path: str | Path) -> None:
    """Raise now what `write_picture` would: for before something that takes long."""
    path = Path(path)
    check_output(path, PICTURES[_suffix(path)])
    require_matplotlib()


def write_picture(drawing: Drawing, path: str | Path) -> None:
    """Write a figure as the ``.svg`` or ``.png`` file that the path's suffix says.

    Raises `UsageError` for another suffix and for a file of another kind, and `ResultError` where
    the file cannot be written.
    """
    path = Path(path)
    suffix = _suffix(path)
    write_atomically(path, picture(drawing, suffix.removeprefix(".")), kind=PICTURES[suffix])


@styled
def picture(drawing: Drawing, format_name: str) -> bytes:
    """The figure as an ``svg`` or ``png`` file, the same each time."""
    data = io.BytesIO()
    svg, by = format_name == "svg", PICTURE_BY
    metadata = {"Date": None, "Creator": by} if svg else {"Software": by}
    drawing.figure.savefig(data, format=format_name, dpi=_DPI, facecolor="white", metadata=metadata)
    return data.getvalue()


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in PICTURES:
        raise UsageError(
            f"{path}: a picture is written as {' or '.join(PICTURES)}; name such a file"
        )
    return suffix
