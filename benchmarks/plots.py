"""Pictures for docs/measurement.md; needs matplotlib (`pip install '.[plots]'`)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


def save(figure: Any, path: Path) -> None:
    """Write a figure as SVG, with nothing in it that changes from run to run by itself."""
    import matplotlib as mpl

    mpl.rcParams["svg.hashsalt"] = "lutra"
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE), encoding="utf-8")
