"""A table of ours in OFA's form: its sums are our predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from lutra.errors import TableError, UsageError
from lutra.interchange.ofa_file import Entry
from lutra.interchange.ofa_keys import Dialect
from lutra.ops import Conv, Linear, OpConfig
from lutra.predictors.efficiency.costs import OpCost
from lutra.predictors.efficiency.predictor import EfficiencyPredictor
from lutra.tables import Imported
from lutra.tables.measurement import LEAST_MS

Sources = Mapping[tuple[str, int], Imported]
"""What was imported, by op key and resolution: their runs and deviations go along."""


def ofa_entries(
    predictor: EfficiencyPredictor,
    dialect: Dialect,
    resolutions: Sequence[int],
    sources: Sources,
) -> dict[str, Entry]:
    """What OFA's estimator adds up to our predictions at some resolutions, by its keys.

    What an op adds to a network stands in its row. What a network has beside, and what the dialect
    has no row for, stands in one that every network has: of one resolution in the dearest of them,
    of several in the first convolution's, which each resolution has for itself.

    Raises `MissingOpError` for an op without a price, `UsageError` for a space without keys, and
    `TableError` for predictions that are no such sum.
    """
    cost = _additive(predictor)
    entries: dict[str, Entry] = {}
    for resolution in resolutions:
        rows = _at(predictor, cost, dialect, resolution, sources, alone=len(resolutions) == 1)
        for key, entry in rows.items():
            if entries.setdefault(key, entry).mean_ms != entry.mean_ms:
                raise TableError(
                    f"{predictor.path} has two prices for '{key}', which has one row for several"
                    " resolutions: name one with --resolution"
                )
    return entries


def _additive(predictor: EfficiencyPredictor) -> OpCost:
    if len(predictor.latency.forms) > 1:
        raise TableError(
            f"{predictor.path} predicts the larger of two sums, the device's and its host's: a"
            " table of one number per op cannot say that. --plain-sum exports what ops take alone"
        )
    return predictor.latency.forms[0]


def _at(
    predictor: EfficiencyPredictor,
    cost: OpCost,
    dialect: Dialect,
    resolution: int,
    sources: Sources,
    *,
    alone: bool,
) -> dict[str, Entry]:
    space = predictor.space
    indices = [int(index) for index in space.op_indices_at([resolution])]
    predictor.require_ops(indices)
    prices = {space.ops[index]: float(cost.prices[index]) for index in indices}
    keys = dialect.keys(space, resolution)
    carrier = _carrier(prices) if alone else _stem(prices, resolution)
    unlisted = cost.constant + sum(prices[op] for op, key in keys.items() if key is None)
    entries = {}
    for op, key in keys.items():
        if key is None:
            continue
        mean_ms = prices[op] + unlisted if op == carrier else prices[op]
        if mean_ms < LEAST_MS:
            raise TableError(
                f"{predictor.path}: {op.key} adds {mean_ms:.3g} ms to networks at {resolution}, and"
                f" '{key}' cannot have that: OFA's tables have numbers above 0. --plain-sum exports"
                " what ops take alone, --dialect another kind of table"
            )
        source = sources.get((op.key, resolution))
        entries[key] = Entry(mean_ms, *((source.std_ms, source.runs) if source else (None, None)))
    return entries


def _carrier(prices: Mapping[OpConfig, float]) -> OpConfig:
    """The dearest op that is no choice: these spaces choose among blocks alone."""
    return max((op for op in prices if isinstance(op, Conv | Linear)), key=prices.__getitem__)


def _stem(prices: Mapping[OpConfig, float], resolution: int) -> OpConfig:
    stems = (op for op in prices if isinstance(op, Conv))
    return next(op for op in stems if op.input_shape.height == resolution)


def ofa_text(entries: Mapping[str, Entry], *, as_json: bool) -> bytes:
    """The file, as its authors' are written."""
    rows = {key: _fields(entry) for key, entry in sorted(entries.items())}
    if as_json:
        lines = (
            f" {json.dumps(key)}: {{{', '.join(f'{json.dumps(n)}: {v}' for n, v in row.items())}}}"
            for key, row in rows.items()
        )
        return ("{\n" + ",\n".join(lines) + "\n}\n").encode()
    return "".join(
        f"{key}:\n" + "".join(f"  {name}: {value}\n" for name, value in row.items())
        for key, row in rows.items()
    ).encode()


def _fields(entry: Entry) -> dict[str, str]:
    fields = {"count": entry.runs, "mean": entry.mean_ms, "std": entry.std_ms}
    return {name: _number(value) for name, value in fields.items() if value is not None}


def _number(value: float) -> str:
    """With a point in it: 1e-05 is text to YAML 1.1, which OFA's estimator reads."""
    text = repr(value)
    return text if "e" not in text or "." in text else text.replace("e", ".0e")


def one_resolution(
    predictor: EfficiencyPredictor, dialect: Dialect, asked: int | None
) -> Sequence[int]:
    """What a file is of: the resolution that is asked for, or all where the dialect holds several.

    Raises `UsageError` for one that the table lacks, or must be named.
    """
    known = predictor.resolutions
    listed = ", ".join(map(str, known))
    if asked is not None:
        if asked not in known:
            raise UsageError(f"{predictor.path} holds no resolution {asked}, but {listed}")
        return [asked]
    if len(known) > 1 and not dialect.holds_several:
        raise UsageError(
            f"{predictor.path} holds the resolutions {listed}, and a file of this kind one; name"
            " one with --resolution"
        )
    return known
