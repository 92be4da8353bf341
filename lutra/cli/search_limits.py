"""What a search is limited by, and what a front is over, from the command line's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lutra.errors import UsageError


def limits_of(
    table: Path,
    max_latency: tuple[str, ...],
    max_flops: str | None,
    max_params: str | None,
    max_memory: str | None,
) -> dict[str, Any]:
    """The limits as `lutra.find_networks` takes them; raises `UsageError`."""
    from lutra.cli.quantities import parse_bytes, parse_count, parse_latency_limits

    latency_ms, other_tables = parse_latency_limits(max_latency, table)
    return {
        "max_latency_ms": latency_ms,
        "max_macs": parse_count(max_flops) if max_flops is not None else None,
        "max_params": parse_count(max_params) if max_params is not None else None,
        "max_memory": parse_bytes(max_memory) if max_memory is not None else None,
        "other_tables": other_tables,
    }


def objectives_of(
    pareto: bool,
    objectives: str | None,
    front_files: tuple[Path, ...],
    other_tables: dict[str | Path, float | None],
) -> tuple[str, ...]:
    """What a front is asked for, none where no front is.

    Tables that are only named among the objectives are added to the others, without a limit.
    """
    from lutra.search.fronts.find import DEFAULT_OBJECTIVES
    from lutra.search.fronts.objectives import OBJECTIVES

    if not (pareto or objectives or front_files):
        return ()
    context = click.get_current_context()
    for name in ("algorithm", "preset"):
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise UsageError(f"a front is found by NSGA-II: leave out --{name}")
    if objectives is None:
        return DEFAULT_OBJECTIVES
    names = tuple(name.strip() for name in objectives.split(","))
    for name in names:
        if name not in OBJECTIVES and Path(name).is_file():
            other_tables.setdefault(name, None)
    return names
