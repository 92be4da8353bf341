"""A front as a file for others to read or look at: CSV, JSON, SVG or PNG, by its suffix."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from lutra.errors import UsageError
from lutra.files import check_output, write_atomically
from lutra.files.kinds import FRONT_FORMAT, FRONTS, PICTURES
from lutra.report.figures.drawing import require_matplotlib
from lutra.report.figures.found import found_networks
from lutra.report.figures.picture import write_picture
from lutra.search.candidate import Candidate
from lutra.search.result import SearchResult

VERSION = 1


def check_front_file(path: str | Path) -> None:
    """Raise now what `write_front` would: for before something that takes long."""
    path = Path(path)
    check_output(path, FRONTS[_suffix(path)])
    if _is_picture(path):
        require_matplotlib()


def write_front(result: SearchResult, path: str | Path) -> None:
    """Write the front that a result holds: a line (``.csv``) or object (``.json``) per network.

    ``.svg`` and ``.png`` are a picture of it, which needs matplotlib. Raises `UsageError` for a
    result without a front, another suffix, a file of another kind and where matplotlib is missing,
    and `ResultError` where the file cannot be written.
    """
    path = Path(path)
    suffix = _suffix(path)
    if not result.objectives:
        raise UsageError("the search result holds no front; `lutra search ... --pareto` makes one")
    if _is_picture(path):
        write_picture(found_networks([result]), path)
        return
    data = (_csv(result) if suffix == ".csv" else _json(result)).encode()
    write_atomically(path, data, kind=FRONTS[suffix])


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in FRONTS:
        raise UsageError(f"{path}: a front is written as {', '.join(FRONTS)}; name such a file")
    return suffix


def _is_picture(path: Path) -> bool:
    return _suffix(path) in PICTURES


def _record(candidate: Candidate) -> dict[str, Any]:
    """One network's numbers, with their units, and its choices."""
    return {
        "accuracy_percent": candidate.accuracy,
        "latency_ms": candidate.predicted_ms,
        "low_ms": candidate.predicted_low_ms,
        "high_ms": candidate.predicted_high_ms,
        **{
            f"latency_ms on {path}": there.latency_ms for path, there in candidate.elsewhere.items()
        },
        "macs": candidate.macs,
        "params": candidate.params,
        "memory_bytes": candidate.memory_bytes,
        "precision": candidate.precision,
        "architecture": candidate.architecture.to_json(),
    }


def _csv(result: SearchResult) -> str:
    text = io.StringIO()
    records = [_record(candidate) for candidate in result.candidates]
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    for record, candidate in zip(records, result.candidates, strict=True):
        writer.writerow({**record, "architecture": candidate.architecture.key})
    return text.getvalue()


def _json(result: SearchResult) -> str:
    document = {
        "format": FRONT_FORMAT,
        "version": VERSION,
        "space": result.space,
        "table": result.table,
        "objectives": list(result.objectives),
        "front": [_record(candidate) for candidate in result.candidates],
    }
    return json.dumps(document, indent=2) + "\n"
