"""Diff: what a second table says otherwise than a first, per op, per kind and overall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lutra.errors import ResultError, TableError, TargetMismatchError, UsageError
from lutra.inspection.changes import (
    ENOUGH,
    Change,
    Floats,
    StateRange,
    change,
    mean_change,
    sum_change,
    verdicts,
)
from lutra.inspection.pair import Pair
from lutra.inspection.state_spread import StateSpread, state_spread
from lutra.spaces import SearchSpace, get_space
from lutra.tables import LatencyTable, Target, opened_table
from lutra.tables.measurement import CALIBRATE, MODEL, VALIDATE, Category
from lutra.tables.profiled import read_profiled
from lutra.text import did_you_mean

if TYPE_CHECKING:
    import pandas

_NETWORKS = 2000  # drawn at random, to weigh ops


@dataclass(frozen=True)
class RowChange:
    """One op or network: ``uses`` is how often a random network has it, ``share`` what it adds.

    ``share`` is in percent of the latency of random networks, so that those of all ops add up to
    the change of all ops. The verdict is about what goes beyond the machine's state, the interval
    is of the row alone, as measured. ``device_ms`` is what the device alone needed in either table,
    None where not both tell.
    """

    category: Category
    key: str
    change: Change
    uses: float = 0.0
    share: float = 0.0
    device_ms: tuple[float, float] | None = None

    @property
    def kind(self) -> str:
        """The op's kind; ``network`` for a network."""
        return self.key.partition("/")[0] if self.category == "op" else "network"


@dataclass(frozen=True)
class KindChange:
    """All ops of a kind, weighted as random networks have them; ``share`` as of a `RowChange`."""

    kind: str
    ops: int
    change: Change
    share: float


@dataclass(frozen=True)
class TableDiff:
    """What table ``b`` says otherwise than table ``a``: a change above 0 is slower.

    ``differing`` are the fields of their targets that differ on purpose. ``ops`` is of the sum of
    ops that random networks of ``space`` have, ``networks`` of the ``networks_measured`` that both
    tables measured. Each is None where nothing tells. ``common_percent`` is the median op's change.
    ``only_a`` and ``only_b`` count rows that the other lacks.
    """

    a: str
    b: str
    differing: Mapping[str, tuple[str | int, str | int]]
    space: str | None
    resolutions: tuple[int, ...]
    ops: Change | None
    networks: Change | None
    networks_measured: int
    kinds: tuple[KindChange, ...]
    rows: tuple[RowChange, ...]
    common_percent: float | None
    state: StateSpread
    only_a: int
    only_b: int

    @property
    def of_networks(self) -> bool:
        """Whether `overall` is of networks that both measured: where they are enough, or no ops."""
        enough = self.networks_measured >= ENOUGH or self.ops is None
        return enough and self.networks is not None

    @property
    def overall(self) -> Change:
        """What random networks changed by: as measured, or else by the sum of their ops.

        Raises `TableError` where the tables share neither.
        """
        if self.known is None:
            raise TableError(
                f"{self.a} and {self.b} share no network, nor all ops of one: no overall change can"
                " be stated"
            )
        return self.known

    @property
    def known(self) -> Change | None:
        """The `overall` change, or None."""
        return self.networks if self.of_networks else self.ops

    @property
    def separated(self) -> bool:
        """Whether the overall interval includes what the machine's state does from run to run."""
        return ("network" if self.of_networks else "op") in self.state.half_width

    def explaining(self, most: int) -> list[RowChange]:
        """The ops that changed and count for most, the first the one that counts most."""
        found = [row for row in self.rows if row.category == "op" and _changed(row.change)]
        return sorted(found, key=lambda row: -abs(row.share))[:most]

    def to_frame(self) -> pandas.DataFrame:
        """A row per op and network that both tables measured."""
        import pandas

        columns = ["category", "key", "kind", *(item.name for item in fields(Change))]
        columns += ["uses", "share", "a_device_ms", "b_device_ms"]
        return pandas.DataFrame([_flat(row) for row in self.rows], columns=columns)

    def to_json(self) -> dict[str, Any]:
        """For JSON: the fields, with the overall change first."""
        return {
            "overall": asdict(self.known) if self.known else None,
            "of_networks": self.of_networks,
            "separated": self.separated,
            **{item.name: getattr(self, item.name) for item in fields(self)
               if item.name not in ("ops", "networks", "kinds", "rows", "state")},
            "ops": asdict(self.ops) if self.ops else None,
            "networks": asdict(self.networks) if self.networks else None,
            "state": asdict(self.state),
            "kinds": [asdict(kind) for kind in self.kinds],
            "rows": [_flat(row) for row in self.rows],
        }  # fmt: skip


def diff_tables(
    a: LatencyTable | str | Path,
    b: LatencyTable | str | Path,
    *,
    space: SearchSpace | str | None = None,
    differs: Sequence[str] = (),
) -> TableDiff:
    """What table ``b`` says otherwise than table ``a`` of what both measured.

    ``differs`` names the fields of the target that differ on purpose (``runtime_version``),
    ``space`` is whose networks weigh the ops, where the tables share several.

    The machine's state differs from run to run, all latencies by about the same factor. What all
    ops have in common can therefore be a change of the runtime or of the state: how far states
    differ is learnt from tables of several runs over as long a time as the two are apart
    (`StateSpread`), and included in the overall interval; where there are none, `separated` is
    False. An op's verdict is about what goes beyond any part of that.

    Raises `TargetMismatchError` for other differences of the targets or an imported table,
    `UsageError` for names that are none, `TableError` where the tables share nothing.

    >>> found = diff_tables("cpu.lut", "cpu.lut")
    >>> found.overall.percent, found.overall.verdict
    (0.0, 'unchanged')
    >>> frame = found.to_frame()  # a row per op and network that both measured
    >>> bool((frame.percent == 0.0).all())
    True
    """
    with opened_table(a) as first, opened_table(b) as second:
        differing = _differing(first, second, differs)
        found = _shared_space(first, second, space)
        pairs = [Pair.read(first, second, category) for category in ("op", "network")]
        if not any(pair.keys for pair in pairs):
            raise TableError(
                f"{first.path} and {second.path} share no row that both measured: `lutra profile`"
                " of the same space and resolutions makes tables that can be compared"
            )
        state = state_spread(first, second)
        return _diff(first, second, differing, found, pairs, state)


def _differing(
    a: LatencyTable, b: LatencyTable, differs: Sequence[str]
) -> dict[str, tuple[str | int, str | int]]:
    """How the targets differ, all of it on purpose."""
    names = [item.name for item in fields(Target)]
    for name in differs:
        if name not in names:
            raise UsageError(
                f"a target has no '{name:.40}'"
                f"{did_you_mean(name, names) or '; it has ' + ', '.join(names)}"
            )
    for table in (a, b):
        if table.target.is_imported:
            raise TargetMismatchError(
                f"{table.path} was imported: its numbers have no interval, so no difference can be"
                " told from chance"
            )
    differing = a.target.differences(b.target)
    if unsaid := {name: values for name, values in differing.items() if name not in differs}:
        told = "; ".join(f"{name} is '{x}' and '{y}'" for name, (x, y) in unsaid.items())
        raise TargetMismatchError(
            f"{a.path} and {b.path} are of different targets: {told}. If that is on purpose, say"
            f" --differs {','.join(differing)}"
        )
    return differing


def _shared_space(
    a: LatencyTable, b: LatencyTable, asked: SearchSpace | str | None
) -> tuple[SearchSpace, tuple[int, ...]] | None:
    """The space that both cover, and at which resolutions; None for tables of models."""
    mine, theirs = (read_profiled(table).spaces for table in (a, b))
    shared = {name: sorted({*mine[name]} & {*theirs[name]}) for name in mine if name in theirs}
    if asked is not None:
        name = get_space(asked).name
        if name not in shared:
            raise UsageError(f"{a.path} and {b.path} do not both cover {name}")
    elif len(shared) > 1:
        raise UsageError(
            f"{a.path} and {b.path} share these spaces: {', '.join(shared)}; name one with --space"
        )
    elif not shared:
        return None
    else:
        (name,) = shared
    return get_space(asked or name), tuple(shared[name])


def _diff(
    a: LatencyTable,
    b: LatencyTable,
    differing: Mapping[str, tuple[str | int, str | int]],
    space: tuple[SearchSpace, tuple[int, ...]] | None,
    pairs: Sequence[Pair],
    state: StateSpread,
) -> TableDiff:
    of_ops, of_networks = pairs
    changes, by_state = of_ops.changes(state.half_width.get("op"))
    uses = _uses(*space, of_ops.keys) if space else np.zeros(len(changes))
    a_ms = np.array([change.a_ms for change in changes])
    b_ms = np.array([change.b_ms for change in changes])
    total = float(uses @ a_ms) if len(changes) else 0.0
    shares = 100.0 * uses * (b_ms - a_ms) / total if total else np.zeros(len(changes))
    rows = [
        RowChange("op", key, change, float(use), float(share), of_ops.device_ms(key))
        for key, change, use, share in zip(of_ops.keys, changes, uses, shares, strict=True)
    ]
    whole, _ = of_networks.changes(state.half_width.get("network"))
    rows += [
        RowChange("network", key, change, device_ms=of_networks.device_ms(key))
        for key, change in zip(of_networks.keys, whole, strict=True)
    ]
    random = _random_networks(a, of_networks, space[0] if space else None)
    return TableDiff(
        a=str(a.path),
        b=str(b.path),
        differing=differing,
        space=space[0].name if space else None,
        resolutions=space[1] if space else (),
        ops=_of_ops(of_ops, uses, state.half_width.get("op")) if total else None,
        networks=_of_networks(of_networks, random, state.half_width.get("network")),
        networks_measured=len(random),
        kinds=_kinds(of_ops, rows, uses, total, by_state) if total else (),
        rows=tuple(rows),
        common_percent=_common_percent(changes),
        state=state,
        only_a=sum(len(pair.a) - len(pair.keys) for pair in pairs),
        only_b=sum(len(pair.b) - len(pair.keys) for pair in pairs),
    )


def _common_percent(changes: Sequence[Change]) -> float | None:
    steady = [one.percent for one in changes if one.verdict != "flagged"]
    return float(np.median(steady)) if len(steady) >= ENOUGH else None


def _uses(space: SearchSpace, resolutions: Sequence[int], keys: Sequence[str]) -> Floats:
    """(keys,): how often a random network has each op, of networks that have no others."""
    places = {op.key: index for index, op in enumerate(space.ops)}
    columns = np.array([places.get(key, -1) for key in keys], dtype=np.int64)
    counts = np.zeros(len(space.ops))
    if resolutions:
        rows = space.sample(_NETWORKS, np.random.default_rng(0), resolutions)
        indices = space.op_indices(rows)
        known = np.zeros(len(space.ops) + 1, dtype=bool)
        known[columns[columns >= 0]] = True
        known[-1] = True  # an empty slot's index is -1
        whole = indices[known[indices].all(axis=1)]
        if len(whole):
            counts = np.bincount(whole[whole >= 0], minlength=len(counts)) / len(whole)
    return np.where(columns >= 0, counts[columns], 0.0)


def _sum(pair: Pair, keys: Sequence[str], uses: Floats) -> tuple[float, float, float]:
    """What so many uses of ops take in either table in ms, and the standard error of the ratio."""
    (a, b), (error_a, error_b) = pair.latencies(keys), pair.errors(keys)
    in_a, in_b = float(uses @ a), float(uses @ b)
    parts = [
        np.sum((uses * a * error_a) ** 2) / in_a**2,
        np.sum((uses * b * error_b) ** 2) / in_b**2,
    ]
    return in_a, in_b, float(np.sqrt(np.sum(parts)))


def _of_ops(pair: Pair, uses: Floats, state: float | None) -> Change:
    return sum_change(*_sum(pair, pair.keys, uses), state)


def _of_networks(pair: Pair, keys: Sequence[str], state: float | None) -> Change | None:
    if len(keys) > 1:
        return mean_change(*pair.latencies(keys), state)
    return sum_change(*_sum(pair, keys, np.ones(1)), state) if keys else None


def _kinds(
    pair: Pair,
    rows: Sequence[RowChange],
    uses: Floats,
    total: float,
    by_state: StateRange | None,
) -> tuple[KindChange, ...]:
    """The kinds that random networks have, the one that counts most first."""
    members: dict[str, list[int]] = {}
    for index, row in enumerate(rows[: len(uses)]):
        if row.uses:
            members.setdefault(row.kind, []).append(index)
    keys = pair.keys
    sums = [_sum(pair, [keys[i] for i in own], uses[own]) for own in members.values()]
    logs = np.array([np.log(b / a) for a, b, _ in sums])
    if by_state is not None:  # of ops the same for all
        by_state = np.min(by_state[0]), np.max(by_state[1])
    words = verdicts(logs, np.array([error for _, _, error in sums]), by_state)
    kinds = [
        KindChange(kind, len(own), change(a, b, error, word), 100.0 * (b - a) / total)
        for (kind, own), (a, b, error), word in zip(members.items(), sums, words, strict=True)
    ]
    return tuple(sorted(kinds, key=lambda kind: -abs(kind.share)))


def _random_networks(a: LatencyTable, pair: Pair, space: SearchSpace | None) -> list[str]:
    """The networks that both measured and no search chose; of models all. None that is flagged."""
    roles = (MODEL,) if space is None else (CALIBRATE, VALIDATE)
    keys = [row.key for role in roles for row in a.rows("network", role)]
    shared = [key for key in keys if key in pair.a and key in pair.b and not pair.is_flagged(key)]
    return [key for key in shared if space is None or _is_of(space, key)]


def _is_of(space: SearchSpace, key: str) -> bool:
    try:
        return space.from_key(key) is not None
    except (ResultError, UsageError):
        return False


def _changed(found: Change) -> bool:
    return found.verdict not in ("unchanged", "flagged")


def _flat(row: RowChange) -> dict[str, Any]:
    a_device_ms, b_device_ms = row.device_ms or (None, None)
    return {
        "category": row.category,
        "key": row.key,
        "kind": row.kind,
        **asdict(row.change),
        "uses": row.uses,
        "share": row.share,
        "a_device_ms": a_device_ms,
        "b_device_ms": b_device_ms,
    }
