"""The latency estimators of the package ``ofa``, and tables that they can read."""

from __future__ import annotations

import json
import types
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lutra.spaces import Architecture
from tests.supernets.reference import reference

TABLES = {"ofa-mbv3": "MBv3LatencyTable", "ofa-proxyless": "ProxylessNASLatencyTable"}


class OfaEstimator:
    """What ``ofa`` says of a space's architectures by tables of one file per resolution."""

    def __init__(self, space: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._network = reference(space)
        from ofa.nas.efficiency_predictor import latency_lookup_table as module
        from yaml import safe_load

        # It calls ``yaml.load`` without a loader, which PyYAML has not allowed since 6.0.
        monkeypatch.setattr(module, "yaml", types.SimpleNamespace(load=safe_load))
        self._kind = getattr(module, TABLES[space.rpartition("-")[0]])
        self._tables: dict[int, Any] = {}

    def read(self, files: dict[int, Path]) -> None:
        """Use the files, by the resolution that each is of."""
        self._tables = {r: self._kind(url=str(path)) for r, path in files.items()}

    def latency_ms(self, architecture: Architecture) -> float:
        """Its estimate of an architecture."""
        genes = {name: list(values) for name, values in architecture.lists}
        return self._estimate(self._tables[architecture.r], genes, architecture.r)

    def _estimate(self, table: Any, genes: dict[str, Any], resolution: int) -> float:
        self._network.set_active_subnet(**genes)
        config = self._network.get_active_net_config()
        return float(table.predict_network_latency_given_config(config, resolution))

    def made_up(self, folder: Path, resolutions: Sequence[int], seed: int = 0) -> dict[int, Path]:
        """Files of all keys that the estimator asks for, as it spells them, with random numbers."""
        random = np.random.default_rng(seed)
        found = {}
        for resolution in resolutions:
            table = self._kind.__new__(self._kind)
            table.lut = _Asked(random)
            for kernel, expand in product((3, 5, 7), (3, 4, 6)):
                self._estimate(table, {"ks": kernel, "e": expand, "d": 4}, resolution)
            found[resolution] = write_table(folder / f"{resolution}_table.yaml", table.lut)
        return found


class _Asked(dict[str, dict[str, Any]]):
    """A table that has a row for whatever it is asked."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random

    def __missing__(self, key: str) -> dict[str, Any]:
        mean = float(self._random.uniform(0.1, 3.0))
        self[key] = {"count": 500, "mean": mean, "std": mean / 50}
        return self[key]


def write_table(path: Path, rows: dict[str, dict[str, Any]]) -> Path:
    """A table in OFA's YAML, as their files are written."""
    text = "".join(
        f"{key}:\n" + "".join(f"  {name}: {json.dumps(value)}\n" for name, value in fields.items())
        for key, fields in sorted(rows.items())
    )
    path.write_text(text)
    return path
