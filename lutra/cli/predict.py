"""lutra predict: the latency of an architecture, op by op."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import lutra
from lutra.cli.options import WEIGHTS, as_json, network_option, space_option, table_argument
from lutra.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from lutra.predictors.efficiency.basis import Basis
    from lutra.predictors.efficiency.predictor import OpContribution

_BOUNDS = {
    "device-bound": "device-bound: the device takes longer than the host that launches its work",
    "launch-bound": "launch-bound: the host takes longer to launch the work than the device to do"
    " it, so each op counts what its launches take",
}


@click.command("predict")
@table_argument
@click.option(
    "--arch",
    "architecture_file",
    type=WEIGHTS,
    required=True,
    help="JSON with ks, e, d, r as OFA writes them, a search result, or a network file.",
)
@space_option
@network_option
@as_json
def command(table: Path, architecture_file: Path, space_name: str | None, as_json: bool) -> None:
    """Latency of an architecture with its interval and what each op contributes."""
    from lutra.search.result import read_found

    predictor = lutra.EfficiencyPredictor(table, space_name)
    architecture, _ = read_found(architecture_file, predictor.space.name)
    prediction = predictor.predict_one(architecture)
    contributions = predictor.breakdown(architecture)
    constant_ms = predictor.constant_ms(architecture)
    basis = predictor.basis(architecture)
    filled = {row.key for row in basis.rows if row.filled} if basis is not None else set()
    if as_json:
        print_json(
            {
                "architecture": architecture.to_json(),
                "predicted_ms": prediction.latency_ms,
                "predicted_low_ms": prediction.low_ms,
                "predicted_high_ms": prediction.high_ms,
                "macs": prediction.macs,
                "params": prediction.params,
                "bound": prediction.bound,
                "constant_ms": constant_ms,
                "ops": [{**_record(op), "filled": op.key in filled} for op in contributions],
                "basis": None if basis is None else asdict(basis),
            }
        )
        return
    interval = (
        f" ({prediction.low_ms:.4g} to {prediction.high_ms:.4g} ms for 95 % of networks)"
        if prediction.low_ms is not None
        else ""
    )
    _print_ops(contributions, constant_ms, prediction.latency_ms, basis)
    note(f"{prediction.latency_ms:.4g} ms{interval}, {prediction.macs / 1e6:.0f}M MACs")
    if basis is not None:
        if filled:
            note(
                f"{len(filled)} of its {len(basis.rows)} rows were not measured but filled in:"
                " `lutra profile` without --sample measures them"
            )
        note(_beyond_rows(basis, some_filled=bool(filled)))
    if prediction.bound:
        note(_BOUNDS[prediction.bound])
    if predictor.origin is not None:
        note(predictor.origin)
    elif not predictor.calibrated:
        note(f"the table is not calibrated: this is a plain sum; run lutra calibrate {table}")
    if stale := predictor.staleness([architecture.r]):
        note(f"{stale}; run lutra calibrate {table} again")


def _print_ops(
    contributions: Sequence[OpContribution],
    constant_ms: float,
    latency_ms: float,
    basis: Basis | None,
) -> None:
    """A line per op: what it takes, how surely that is known, its share of the interval's square.

    An op that is there twice has half of its row's share at each place.
    """
    known = {row.key: row for row in basis.rows} if basis is not None else {}
    uses = Counter(op.key for op in contributions)

    def sureness(key: str) -> list[object]:
        if key not in known:
            return [None, None, None]
        row = known[key]
        share = None if row.share is None else 100 * row.share / uses[key]
        return [row.half_width_percent, "filled" if row.filled else row.visits, share]

    rows: list[list[object]] = [
        [
            op.key,
            op.alone_ms,
            op.predicted_ms,
            100 * op.predicted_ms / latency_ms,
            *sureness(op.key),
        ]
        for op in contributions
    ]
    rows.append(["(constant)", None, constant_ms, None, None, None, None])
    if basis is not None and basis.rest_share is not None:
        rows.append(["(not of rows)", None, None, None, None, None, 100 * basis.rest_share])
    rows.append(["total", None, latency_ms, 100.0, None, None, None])
    columns = ["op", "alone ms", "in the network ms", "%", "alone within %", "visits", "interval %"]
    if basis is None:
        columns, rows = columns[:4], [row[:4] for row in rows]
    print_table(columns, rows)


def _beyond_rows(basis: Basis, *, some_filled: bool) -> str:
    if basis.too_narrow:
        more = "" if some_filled else ": `lutra profile --again` measures them once more"
        return (
            f"its rows alone leave it uncertain by {basis.rows_percent:.2g} %, more than the"
            f" interval says{more}"
        )
    text = f"its rows leave it uncertain by {basis.rows_percent:.2g} %"
    if basis.rest_share is None:
        return text
    return (
        f"{text}: {100 * (1 - basis.rest_share):.2g} % of the interval's square, the rest is what"
        " adding ops up does not know, and how processes differ"
    )


def _record(op: OpContribution) -> dict[str, Any]:
    """For JSON, whose names stay: ``unit_ms`` is what the op takes alone."""
    return {"key": op.key, "unit_ms": op.alone_ms, "predicted_ms": op.predicted_ms}
