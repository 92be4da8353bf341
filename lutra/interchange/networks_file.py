"""CSV files of whole networks and what they took: what a device farm, or an NPU's tool, reports.

::

    architecture,latency_ms
    "{""ks"": [3, 5, ...], ""e"": [4, 6, ...], ""d"": [2, 3, ...], ""r"": [224]}",21.4

``architecture`` is OFA's dictionary, as JSON; other columns are left alone. A network that stands
there more than once was run so often.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lutra.errors import LutraError, NotATableError
from lutra.files import parse_json, read_bounded
from lutra.spaces import Architecture, SearchSpace, parse_architecture
from lutra.tables.measurement import LEAST_MS, MOST_MS

ARCHITECTURE, LATENCY = "architecture", "latency_ms"
_MAX_BYTES = 64 << 20
_TOO_LARGE = f"is larger than {_MAX_BYTES >> 20} MiB: too large for a list of networks"
_MOST_APART = 3.0  # times: runs of one network that differ by more contradict each other


@dataclass(frozen=True)
class NetworksFile:
    """Networks and their runs in ms, in the file's order; ``sha256`` is the file's digest."""

    path: Path
    sha256: str
    runs_ms: Mapping[Architecture, tuple[float, ...]]

    @property
    def latencies_ms(self) -> list[float]:
        """The median of each network's runs."""
        return [float(np.median(runs)) for runs in self.runs_ms.values()]


def read_networks(path: str | Path, space: SearchSpace) -> NetworksFile:
    """Read the networks of a space; raises `NotATableError`, which names the line."""
    path = Path(path)
    data = read_bounded(path, _MAX_BYTES, _TOO_LARGE, NotATableError)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotATableError(f"{path} is no CSV file: it is not UTF-8 text") from error
    found: dict[Architecture, list[float]] = {}
    for line, network, latency_ms in _lines(path, text):
        try:
            architecture = _architecture(network, space)
            runs = found.setdefault(architecture, [])
            runs.append(_milliseconds(latency_ms))
            _require_alike(runs)
        except (LutraError, ValueError) as error:
            raise NotATableError(f"{path}, line {line}: {error}") from error
    if not found:
        raise NotATableError(f"{path} holds no networks")
    digest = hashlib.sha256(data).hexdigest()
    return NetworksFile(path, digest, {key: tuple(runs) for key, runs in found.items()})


def _lines(path: Path, text: str) -> Iterator[tuple[int, str, str]]:
    """Where each network stands, its architecture and its latency, as text."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        for name in (ARCHITECTURE, LATENCY):
            if header.count(name) != 1:
                raise NotATableError(
                    f"{path} has no column '{name}'"
                    if name not in header
                    else f"{path} has the column '{name}' twice"
                )
        columns = header.index(ARCHITECTURE), header.index(LATENCY)
        for row in reader:
            if any(cell.strip() for cell in row):
                if len(row) != len(header):
                    raise NotATableError(
                        f"{path}, line {reader.line_num}: {len(row)} cells under {len(header)}"
                        " columns"
                    )
                yield reader.line_num, row[columns[0]], row[columns[1]]
    except csv.Error as error:
        raise NotATableError(f"{path}, line {reader.line_num}: {error}") from error


def _architecture(text: str, space: SearchSpace) -> Architecture:
    try:
        document = parse_json(text)
    except ValueError:
        raise ValueError(f"'{text:.40}' is no JSON object with ks, e, d and r") from None
    architecture = parse_architecture(document, space.name)
    return space.decode(space.encode(architecture))


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(
            f"'{text:.40}' is no latency in ms" if text.strip() else "its latency is missing"
        ) from None
    if not (math.isfinite(value) and LEAST_MS <= value <= MOST_MS):
        raise ValueError(f"{value:g} ms is no latency")
    return value


def _require_alike(runs_ms: list[float]) -> None:
    if max(runs_ms) > _MOST_APART * min(runs_ms):
        raise ValueError(
            f"it takes {max(runs_ms):g} ms there and {min(runs_ms):g} ms elsewhere in the file: one"
            " of the two is wrong"
        )
