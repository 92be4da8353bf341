"""`lutra profile` of a space: every unique op that a table lacks."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lutra
from lutra.cli.output import note, note_drift, note_next, note_noise
from lutra.cli.profile_work import Done, Work, options_of, print_rows
from lutra.errors import UsageError

if TYPE_CHECKING:
    from lutra.devices.base import Device
    from lutra.predictors.filling.sample import Sample
    from lutra.profiler.record import RunSummary
    from lutra.spaces import Architecture, SearchSpace

DEFAULT_SPACE = "ofa-mbv3-w1.0"
DEFAULT_RESOLUTIONS = "224"
_SUMMARY_COLUMNS = (
    "table",
    "ops",
    "networks",
    "stable",
    "unstable",
    "partial",
    "failed",
    "seconds",
    "timing %",
)
_MAX_FILE_BYTES = 16 << 20
_FIT_FIGURES = (
    "networks",
    "drifted_networks",
    "cv_mape_percent",
    "sum_mape_percent",
    "repeatability_percent",
)
_WRONG = {
    "shared": "were made while another process computed on the same core or GPU (flag 'shared'):"
    " end it; the same command repeats those that are still needed",
    "throttled": "were made while the device held its clocks back (flag 'throttled'): let it cool",
    "clock": "were made below the clock that the device can hold (flag 'clock')",
}


@dataclass(frozen=True)
class SpaceWork(Work):
    """Every unique op of a space that a table lacks."""

    space: SearchSpace
    resolutions: tuple[int, ...]
    precision: str
    networks: int | None
    sample: Sample | None
    ops: tuple[str, ...] | None
    prior: Path | None

    def measure(self, device: Device, table: Path, watch: lutra.Watch) -> RunSummary:
        return lutra.profile(device, self.space, table, **self._asked(), watch=watch)

    def plan(self, spec: str, table: Path) -> dict[str, Any]:
        from lutra.profiler.profile import plan

        found = plan(spec, self.space, table, **self._asked())
        return {**asdict(found), "least_seconds": round(found.least_seconds)}

    def _asked(self) -> dict[str, Any]:
        """What profiling and its plan are told alike."""
        return {
            "resolutions": self.resolutions,
            "networks": self.networks,
            "sample": self.sample,
            "ops": self.ops,
            "prior": self.prior,
            "again": self.again,
            "runtime": self.runtime,
            "precision": self.precision,
            "threads": self.threads,
            "batch": self.batch,
            "options": self.options,
            "protocol": self.protocol,
        }

    def print_plans(self, plans: Sequence[tuple[str, dict[str, Any]]], *, with_spec: bool) -> None:
        columns = ["ops", "to measure", "networks", "at least"]
        rows = [
            [plan["ops"], plan["missing"], plan["networks"], f"{plan['least_seconds']} s"]
            for _, plan in plans
        ]
        print_rows(columns, [spec for spec, _ in plans], rows, with_spec=with_spec)

    def record(self, table: Path, summary: RunSummary) -> dict[str, Any]:
        return {"table": str(table), **summary.to_json()}

    def print_results(self, done: Sequence[Done], *, with_spec: bool) -> None:
        rows = [_summary_row(table, summary) for _, table, summary in done]
        print_rows(_SUMMARY_COLUMNS, [spec for spec, *_ in done], rows, with_spec=with_spec)
        for _, table, summary in done:
            _note_flags(table, summary)
            self._note_filled(table)
        fitted = [self._note_fit(table) for _, table, _ in done]
        for (spec, table, summary), fits in zip(done, fitted, strict=True):
            note_next(self._next(spec, table, summary, fits))

    def _next(self, spec: str, table: Path, summary: RunSummary, fits: bool) -> str:
        """The step that helps most now."""
        if summary.partial:
            same = "the same command again" if self.again is None else "the same without --again"
            return (
                f"{same}: {summary.partial} ops or networks of {table} were not"
                f" visited often enough{_within(self.budget_seconds)}"
            )
        if summary.failed:
            return f"lutra table show {table} says why {summary.failed} of its rows failed"
        if not summary.stable:
            return (
                f"lutra doctor {spec}, as no row of {table} is stable; what it finds mended, the"
                " same command with --again all"
            )
        return shlex.join(["lutra", "validate" if fits else "calibrate", str(table)])

    def _note_filled(self, table: Path) -> None:
        """Say what was not measured, and what came of a prior."""
        from lutra.predictors.filling.prior import read_prior

        with lutra.LatencyTable.open(table) as opened:
            filled, measured = opened.filled(), len(opened.op_latencies())
            prior = read_prior(opened, self.space.name)
        if not filled:
            return
        source = f"the {measured} that were" if measured else "whole networks"
        note(f"{table}: {len(filled)} ops were not measured but filled in from {source}")
        if prior is not None and prior.use is not None:
            use, so = prior.use, "helps" if prior.use.taken else "is left out"
            note(
                f"{table}: the prior {prior.file} {so}: with it"
                f" what was filled in is known within {use.with_percent:.1f} % (median), without it"
                f" within {use.without_percent:.1f} %"
            )

    def _note_fit(self, table: Path) -> bool:
        """Say how well the calibration that the table holds predicts; whether it holds one."""
        from lutra.tables import LatencyTable
        from lutra.tables.documents import CALIBRATION, is_stale, read_document

        with LatencyTable.open(table) as opened:
            fit = read_document(opened, CALIBRATION, self.space.name)
            if fit is None or is_stale(fit, opened.op_latencies()):
                return False
        networks, drifted, error, plain, noise = (_number(fit, name) for name in _FIT_FIGURES)
        note(
            f"{table}: calibrated on {networks:.0f} networks, predicted within {error:.1f} % on"
            f" average without being fitted on (plain sum {plain:.1f} %)"
        )
        note_drift(int(drifted), int(networks))
        note_noise(noise)
        return True


def _within(budget_seconds: float) -> str:
    return "" if math.isinf(budget_seconds) else f" within {budget_seconds:g} s"


def _number(document: dict[str, Any], name: str) -> float:
    """A document's figure; 0 where it has none."""
    value = document.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def space_work(given: dict[str, Any]) -> SpaceWork:
    """The space that the options name; raises `UsageError` for what they cannot mean."""
    from lutra.cli.quantities import parse_resolutions
    from lutra.devices.registry import format_of
    from lutra.emitters.emission import Emission
    from lutra.profiler.protocols import OP_PROTOCOL

    if given["shapes"]:
        raise UsageError("--shape is of model files: it goes with --model")
    space = lutra.get_space(_given(given, "space", DEFAULT_SPACE))
    only = str(space.resolutions[0]) if len(space.resolutions) == 1 else DEFAULT_RESOLUTIONS
    resolutions = _given(given, "resolutions", only)
    chosen = parse_resolutions(resolutions, space.resolutions)
    space.check_resolutions(chosen)
    precision = _given(given, "precision", "fp32")
    if given["runtime"] is not None:
        Emission(format_of(given["runtime"]), precision)  # refuses what cannot be, before a start
    return SpaceWork(
        **options_of(given, OP_PROTOCOL),
        space=space,
        resolutions=chosen,
        precision=precision,
        networks=given["networks"],
        sample=None if given["sample"] is None else _sample(given["sample"]),
        ops=None if given["ops"] is None else _ops(given["ops"], space),
        prior=given["prior"],
    )


def _ops(path: Path, space: SearchSpace) -> tuple[str, ...]:
    """The keys in a file, one per line; of a result or an architecture those of its networks."""
    from lutra.files import read_bounded
    from lutra.files.kinds import NETWORK, RESULT, is_of_kind, what_is
    from lutra.search.result import read_networks

    if is_of_kind(path, NETWORK):
        return tuple(_keys(read_networks(path, space.name), space))
    data = read_bounded(path, _MAX_FILE_BYTES, "is too large for a list of ops", UsageError)
    found = None if RESULT.is_one(data) else what_is(data)
    if found is not None:
        raise UsageError(
            f"{path} is {found}; ops are named by a list of their keys, or by networks"
        )
    text = data.decode(errors="replace")
    if text.lstrip().startswith("{"):
        return tuple(_keys(read_networks(path, space.name), space))
    keys = tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not keys:
        raise UsageError(f"{path} names no op")
    return keys


def _keys(networks: Sequence[Architecture], space: SearchSpace) -> dict[str, None]:
    """The keys of their ops, each once."""
    return {op.key: None for network in networks for op in space.ops_of(network)}


def _sample(text: str) -> Sample:
    from lutra.cli.quantities import is_time, parse_percent, parse_seconds
    from lutra.predictors.filling.sample import Sample

    if is_time(text):
        return Sample(seconds=parse_seconds(text))
    if "%" not in text:
        raise UsageError(f"'{text}' is no sample; write a share or a time, as 15% or 60s")
    if text.strip() == "0%":
        return Sample(share=0.0)
    return Sample(share=parse_percent(text) / 100.0)


def _given(given: dict[str, Any], name: str, default: str) -> str:
    value = given[name]
    return default if value is None else str(value)


def _note_flags(table: Path, summary: RunSummary) -> None:
    """Say what was wrong with visits, where a person can do something about it."""
    for flag, reason in _WRONG.items():
        if flag in summary.flags:
            note(f"{table}: {summary.flags[flag]} visits {reason}")


def _summary_row(table: Path, summary: RunSummary) -> list[object]:
    return [
        str(table),
        summary.workloads - summary.networks,
        summary.networks,
        summary.stable,
        summary.unstable,
        summary.partial,
        summary.failed,
        summary.wall_seconds,
        100.0 * summary.busy_seconds / max(summary.wall_seconds, 1e-9),
    ]
