"""Import: whole networks that were timed elsewhere as a table, solved for what ops take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lutra.errors import TableError, TableWriteError
from lutra.files import write_atomically
from lutra.files.kinds import is_there
from lutra.files.scratch import scratch_folder
from lutra.interchange.networks_file import NetworksFile, read_networks
from lutra.interchange.units import require_pace
from lutra.predictors.efficiency.fitting import Fit, padded
from lutra.predictors.efficiency.stated_error import RESOLUTIONS
from lutra.predictors.filling.from_networks import solve_networks
from lutra.spaces import SearchSpace, get_space
from lutra.tables import Imported, LatencyTable, Target
from lutra.tables.documents import CALIBRATION, store_document
from lutra.tables.measurement import Filled
from lutra.tables.profiled import note_profiled


@dataclass(frozen=True)
class NetworksSummary:
    """What solving came to: the latencies of ``ops`` from so many ``networks`` of a space.

    Each network is predicted by the others with a mean absolute error of ``cv_mape_percent``; 95 %
    lie within ``interval_percent``.
    """

    space: str
    resolutions: tuple[int, ...]
    networks: int
    ops: int
    cv_mape_percent: float
    interval_percent: float


def table_from_networks(
    file: str | Path,
    space: SearchSpace | str,
    table: str | Path,
    *,
    device_name: str | None = None,
    runtime_name: str | None = None,
) -> NetworksSummary:
    """Make a table of whole networks that were timed elsewhere, from a CSV file.

    The file has the columns ``architecture`` (OFA's dictionary as JSON) and ``latency_ms``. The new
    ``table`` predicts and searches like any other, within an interval that networks left out show;
    every op in it is filled in, none measured. ``device_name`` and ``runtime_name`` are what you
    know of where they ran.

    Raises `NotATableError` for a file that is no such list, `TableError` for fewer than 20
    networks, `UsageError` for an unknown space, and `TableWriteError` where the table cannot be
    written or is there already.

    >>> summary = table_from_networks("farm.csv", "ofa-mbv3-w1.0", "farm.lut")
    >>> summary.networks, summary.cv_mape_percent < 10.0
    (60, True)
    >>> EfficiencyPredictor("farm.lut").calibrated
    True
    """
    space, table = get_space(space), Path(table)
    if is_there(table):
        raise TableWriteError(f"{table} is there already: name another file")
    networks = read_networks(file, space)
    resolutions = tuple(sorted({each.r for each in networks.runs_ms}))
    rows = np.stack([space.encode(each) for each in networks.runs_ms])
    measured_ms = np.array(networks.latencies_ms)
    _require_pace(networks, space)
    try:
        runs_ms = padded(networks.runs_ms.values())
        filled, fit = solve_networks(space, resolutions, rows, measured_ms, runs_ms)
    except TableError as error:
        raise TableError(f"{file}: {error}") from error
    _write(table, networks, space, filled, fit, Target.of_import(device_name, runtime_name))
    return NetworksSummary(
        space.name, resolutions, len(rows), len(filled), fit.cv_mape_percent, fit.interval_percent
    )


def _require_pace(networks: NetworksFile, space: SearchSpace) -> None:
    macs = sum(space.graph(each).macs for each in networks.runs_ms)
    require_pace(f"{networks.path}: its networks", macs, sum(networks.latencies_ms))


def _write(
    path: Path,
    networks: NetworksFile,
    space: SearchSpace,
    filled: Mapping[str, Filled],
    fit: Fit,
    target: Target,
) -> None:
    """The whole table, or none."""
    resolutions = sorted({each.r for each in networks.runs_ms})
    document = {**fit.to_json(), RESOLUTIONS: resolutions}
    with scratch_folder() as folder:
        made = folder / "solved.lut"
        with LatencyTable.create(made, target) as table:
            note_profiled(table, None, space.name, resolutions)
            table.record_imports(_imported(networks), "network")
            table.fill(filled)
            store_document(table, CALIBRATION, space.name, document)
        write_atomically(path, made.read_bytes(), TableWriteError, new=True)


def _imported(networks: NetworksFile) -> Iterator[tuple[str, Imported]]:
    for each, runs in networks.runs_ms.items():
        yield (
            each.key,
            Imported(
                each.r,
                float(np.median(runs)),
                "",
                networks.path.name,
                networks.sha256,
                len(runs),
                float(np.std(runs, ddof=1)) if len(runs) > 1 else None,
            ),
        )
