"""`lutra profile` of a space: every unique op that a table lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lutra
from lutra.cli.output import note, note_drift, note_noise
from lutra.cli.profile_work import Done, Work, options_of, print_records, print_rows
from lutra.errors import UsageError

if TYPE_CHECKING:
    from lutra.devices.base import Device
    from lutra.profiler.protocols import TimingProtocol
    from lutra.profiler.record import RunSummary
    from lutra.spaces import SearchSpace

DEFAULT_SPACE = "ofa-mbv3-w1.0"
DEFAULT_RESOLUTIONS = "224"
_VISIT_OVERHEAD_SECONDS = 0.003
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

    def measure(self, device: Device, table: Path, watch: lutra.Watch) -> RunSummary:
        return lutra.profile(
            device,
            self.space,
            table,
            resolutions=self.resolutions,
            runtime=self.runtime,
            precision=self.precision,
            networks=self.networks,
            threads=self.threads,
            batch=self.batch,
            options=self.options,
            protocol=self.protocol,
            watch=watch,
        )

    def print_plan(self, specs: Sequence[str], tables: Sequence[Path], as_json: bool) -> None:
        plans = [self._plan(spec, table) for spec, table in zip(specs, tables, strict=True)]
        if as_json:
            print_records(specs, tables, plans)
            return
        rows = [
            [plan["ops"], plan["missing"], plan["networks"], f"{plan['least_seconds']} s"]
            for plan in plans
        ]
        columns = ["ops", "to measure", "networks", "at least"]
        print_rows(columns, specs, rows, with_spec=len(specs) > 1)

    def _plan(self, spec: str, table: Path) -> dict[str, Any]:
        from lutra.profiler.profile import DEFAULT_NETWORKS, missing_keys
        from lutra.profiler.protocols import NETWORK_PROTOCOL

        by_default = 0 if _is_gpu(spec) else DEFAULT_NETWORKS
        networks = by_default if self.networks is None else self.networks
        missing = len(missing_keys(table, self.space, self.resolutions))
        seconds = missing * _least_seconds(self.protocol)
        return {
            "ops": len(self.space.ops_at(self.resolutions)),
            "missing": missing,
            "networks": networks,
            "least_seconds": round(seconds + networks * _least_seconds(NETWORK_PROTOCOL)),
        }

    def record(self, table: Path, summary: RunSummary) -> dict[str, Any]:
        return {"table": str(table), **summary.to_json()}

    def print_results(self, done: Sequence[Done], *, with_spec: bool) -> None:
        rows = [_summary_row(table, summary) for _, table, summary in done]
        print_rows(_SUMMARY_COLUMNS, [spec for spec, *_ in done], rows, with_spec=with_spec)
        if any(summary.partial for *_, summary in done):
            note("some ops were not visited often enough; the same command goes on")
        for _, table, summary in done:
            _note_flags(table, summary)
        fitted = [self._note_fit(table) for _, table, _ in done]
        each = ", and so for each table" if len(done) > 1 else ""
        note(f"next: lutra {'validate' if all(fitted) else 'calibrate'} {done[0][1]}{each}")

    def _note_fit(self, table: Path) -> bool:
        """Say how well the calibration that the table holds predicts; whether it holds one."""
        from lutra.tables import LatencyTable
        from lutra.tables.documents import CALIBRATION, read_document

        with LatencyTable.open(table) as opened:
            fit = read_document(opened, CALIBRATION, self.space.name)
        if fit is None:
            return False
        networks, drifted, error, plain, noise = (_number(fit, name) for name in _FIT_FIGURES)
        note(
            f"{table}: calibrated on {networks:.0f} networks, predicted within {error:.1f} % on"
            f" average without being fitted on (plain sum {plain:.1f} %)"
        )
        note_drift(int(drifted), int(networks))
        note_noise(noise)
        return True


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
    space = lutra.get_space(given["space"] or DEFAULT_SPACE)
    chosen = parse_resolutions(given["resolutions"] or DEFAULT_RESOLUTIONS, space.resolutions)
    space.check_resolutions(chosen)
    precision = given["precision"] or "fp32"
    if given["runtime"] is not None:
        Emission(format_of(given["runtime"]), precision)  # refuses what cannot be, before a start
    return SpaceWork(
        **options_of(given, OP_PROTOCOL),
        space=space,
        resolutions=chosen,
        precision=precision,
        networks=given["networks"],
    )


def _is_gpu(spec: str) -> bool:
    return spec.startswith("cuda") or "/cuda:" in spec


def _least_seconds(protocol: TimingProtocol) -> float:
    """What the least number of visits to one workload takes where models stay loaded."""
    short = protocol.in_short_visits()
    each = short.seconds + short.warmup_seconds + _VISIT_OVERHEAD_SECONDS
    return short.rule.min_rounds * each


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
