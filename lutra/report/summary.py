"""What a table is, in words: facts, what to be careful about, where its numbers come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median, quantiles
from typing import Any

from lutra.predictors.efficiency.fitting import ENOUGH_NETWORKS
from lutra.predictors.efficiency.predictor import STALE
from lutra.report.content import Content
from lutra.tables import Measurement
from lutra.tables.documents import CALIBRATION, VALIDATION

Facts = list[tuple[str, str]]

_FEW_VISITS = 4
_UNKNOWN = "not known"


def facts(content: Content) -> Facts:
    """What the table is of, how much is in it, how sure it is, and when it was made."""
    target = content.target
    return [
        ("device", f"{target.device_model} ({target.device}), {target.architecture}"),
        ("runtime", f"{target.runtime} {target.runtime_version}"),
        ("precision", target.precision),
        *_spaces(content),
        ("workloads", _workloads(content)),
        ("visits", f"{sum(map(len, content.visits.values())):,}"),
        ("95 % intervals of ops", _intervals(content)),
        ("measured", _when(content.runs)),
        *_errors(content),
    ]


def _spaces(content: Content) -> Facts:
    if not content.profiled.spaces:
        return [("space", "none: models of its user's")]
    return [
        (
            "space",
            f"{name} at {', '.join(map(str, resolutions))} px" + _missing(content, name),
        )
        for name, resolutions in content.profiled.spaces.items()
    ]


def _missing(content: Content, name: str) -> str:
    """How many of the ops that a space needs are there."""
    predictor = content.predictors.get(name)
    if predictor is None:
        return ""
    needed = {op.key for op in predictor.space.ops_at(predictor.resolutions)}
    held = needed & {op.config.key for op in content.ops}
    return f": {len(held):,} of {len(needed):,} ops"


def _workloads(content: Content) -> str:
    counts: Counter[str] = Counter(row.category for row in content.rows)
    words = {"op": "op", "network": "network", "reference": "reference"}
    said = [
        f"{counts[category]:,} {word}{'s' if counts[category] > 1 else ''}"
        for category, word in words.items()
        if counts[category]
    ]
    return ", ".join(said) or "none yet"


def _intervals(content: Content) -> str:
    widths = [100.0 * measured.half_width for _, measured in content.measured("op")]
    if not widths:
        return "none"
    high = quantiles(widths, n=20)[-1] if len(widths) > 1 else widths[0]
    return f"±{median(widths):.2f} % in the middle, within ±{high:.2f} % for 95 % of them"


def _when(runs: Sequence[Mapping[str, Any]]) -> str:
    if not runs:
        return _UNKNOWN
    first, last = (str(run["started"])[:16].replace("T", " ") for run in (runs[0], runs[-1]))
    seconds = sum(_number(run.get("wall_seconds")) or 0.0 for run in runs)
    when = first if len(runs) == 1 else f"{first} to {last}"
    return f"{when} UTC, {len(runs)} run{'s' if len(runs) > 1 else ''}, {seconds:.0f} s"


def _errors(content: Content) -> Facts:
    """How good predictions are, as calibration and validation found."""
    found: Facts = []
    for name, documents in content.documents.items():
        calibration, validation = documents[CALIBRATION], documents[VALIDATION]
        of = f" of {name}" if len(content.documents) > 1 else ""
        if calibration:
            error = _percent(calibration, "cv_mape_percent")
            found.append(
                (
                    f"calibration{of}",
                    f"on {_count(calibration)} networks: {error} error, cross-validated"
                    f" (plain sum {_percent(calibration, 'sum_mape_percent')})",
                )
            )
        if validation:
            found.append((f"validation{of}", _validated(validation)))
        predictor = content.predictors.get(name)
        if predictor is not None and predictor.stated is not None:
            found.append(
                (
                    f"stated error{of}",
                    f"within {predictor.stated.percent:.1f} % for 95 % of networks",
                )
            )
    return found


def _validated(document: Mapping[str, Any]) -> str:
    tau = _number(document.get("kendall_tau"))
    ranked = "" if tau is None else f", Kendall tau {tau:.2f}"
    return (
        f"on {_count(document)} fresh networks: {_percent(document, 'mape_percent')} error"
        f" (bias {_percent(document, 'bias_percent')}, worst"
        f" {_percent(document, 'max_percent')}){ranked}; they repeat within"
        f" {_percent(document, 'repeatability_percent')}"
    )


def warnings(content: Content) -> list[str]:
    """What a reader of the table's numbers must know of, each in a sentence."""
    return [*_of_rows(content), *_of_predictions(content)]


def _of_rows(content: Content) -> list[str]:
    if content.target.is_imported:
        return ["The table was imported: how sure its numbers are is not known."]
    measured = [
        (row, found) for category in ("op", "network") for row, found in content.measured(category)
    ]
    status = Counter(row.status for row in content.rows if row.category != "reference")
    flags = Counter(flag for _, found in measured for flag in found.flags)
    thin = sum(found.rounds < _FEW_VISITS for _, found in measured)
    failed = [row for row in content.rows if row.failure is not None]
    said = []
    if not content.rows:
        said.append("The table holds no rows yet.")
    if failed and (failure := failed[0].failure) is not None:
        said.append(
            f"{len(failed)} workloads failed, such as {failed[0].key}: {failure.kind},"
            f" {failure.message}"
        )
    if flags:
        of = ", ".join(f"{count} {flag}" for flag, count in flags.most_common())
        said.append(f"Rows are flagged: {of}.")
    if status["unstable"]:
        said.append(f"{status['unstable']} rows are unstable: their intervals stayed wide.")
    if status["filled"]:
        said.append(
            f"{status['filled']} ops were not measured but filled in from others: they are in no"
            " figure of ops, and in every prediction."
        )
    if status["partial"]:
        said.append(f"{status['partial']} rows are partial: their run was stopped.")
    if thin:
        said.append(f"{thin} rows rest on fewer than {_FEW_VISITS} rounds.")
    said += _of_bounds([found for _, found in measured])
    return said


def _of_bounds(measured: Sequence[Measurement]) -> list[str]:
    waiting = sum(found.bound == "launch" for found in measured)
    if not waiting:
        return []
    return [f"{waiting} rows are launch-bound: the device waits for its host."]


def _of_predictions(content: Content) -> list[str]:
    said = [f"Nothing is predicted of a space: {problem}." for problem in content.problems]
    for name, documents in content.documents.items():
        predictor = content.predictors.get(name)
        if predictor is None or predictor.origin is not None:
            continue
        if not predictor.calibrated:
            said.append(
                f"{name} is not calibrated: predictions are plain sums, their error is not known;"
                " `lutra calibrate` fits how ops add up."
            )
        if predictor.stale:
            said.append(f"The calibration of {name} is stale: {STALE}.")
        if predictor.calibrated and not documents[VALIDATION]:
            said.append(
                f"{name} is not validated: its error is that of networks like those it was fitted"
                " on; `lutra validate` measures others."
            )
        count = documents[CALIBRATION].get("networks")
        if isinstance(count, int) and count < ENOUGH_NETWORKS:
            said.append(f"{name} was calibrated on {count} networks, which tell little of others.")
    return said


def target_facts(content: Content) -> Facts:
    """Every field of the target, as the table has it."""
    return [
        (name.replace("_", " "), str(value)) for name, value in content.target.to_json().items()
    ]


RUN_COLUMNS = ("started (UTC)", "workloads", "visits", "flagged", "timed, s", "in all, s", "seed")


def run_rows(content: Content) -> list[tuple[str, ...]]:
    """The runs that filled the table, with `RUN_COLUMNS`."""
    return [
        (
            str(run["started"])[:19].replace("T", " "),
            *(
                _plain_number(run.get(name))
                for name in (
                    "subjects",
                    "visits",
                    "flagged_visits",
                    "timed_seconds",
                    "wall_seconds",
                    "seed",
                )
            ),
        )
        for run in content.runs
    ]


def _number(value: object) -> float | None:
    usable = isinstance(value, int | float) and abs(value) < 1e12
    return float(value) if usable else None  # type: ignore[arg-type]


def _plain_number(value: object) -> str:
    number = _number(value)
    if number is None:
        return "-"
    return f"{number:,.0f}" if number.is_integer() else f"{number:,.1f}"


def _percent(document: Mapping[str, Any], name: str) -> str:
    number = _number(document.get(name))
    return _UNKNOWN if number is None else f"{number:.1f} %"


def _count(document: Mapping[str, Any]) -> str:
    return _plain_number(document.get("networks"))


def brief(content: Content) -> Facts:
    """The facts that tables are compared by, in a few words."""
    target = content.target
    latencies = [op.latency_ms for op in content.ops]
    stated = [each.stated.percent for each in content.predictors.values() if each.stated]
    return [
        ("device", target.device_model),
        ("runtime", f"{target.runtime} {target.runtime_version}"),
        ("precision", target.precision),
        ("threads", str(target.threads)),
        ("batch", str(target.batch)),
        ("ops", f"{len(latencies):,}"),
        ("ops' median, ms", f"{median(latencies):.4g}" if latencies else "-"),
        ("95 % of networks within", f"{max(stated):.1f} %" if stated else _UNKNOWN),
    ]
