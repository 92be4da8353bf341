"""lutra table lint: is a table sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

import lutra
from lutra.cli.options import FILE, as_json
from lutra.cli.output import line, note, print_json

if TYPE_CHECKING:
    from lutra.inspection.finding import Finding


@click.command("lint")
@click.argument("tables", type=FILE, nargs=-1, required=True)
@click.option("--against", type=FILE, help="A table of another device, to tell copies of its rows.")
@as_json
def lint(tables: tuple[Path, ...], against: Path | None, as_json: bool) -> int:
    """Look for what published tables got wrong; ends with 1 where a number cannot be right."""
    found = {str(table): lutra.lint_table(table, against) for table in tables}
    if as_json:
        print_json(
            [
                {"table": table, "findings": [asdict(each) for each in findings]}
                for table, findings in found.items()
            ]
        )
    for table, findings in found.items():
        for each in [] if as_json else findings:
            line(f"{table}: {finding_text(each)}")
        note(f"{table}: {_counts(findings)}")
    return int(any(each.severity == "error" for each in sum(found.values(), ())))


def finding_text(finding: Finding) -> str:
    """A finding in one line, with the rows that show it."""
    text = f"{finding.severity}: {finding.rule}: {finding.message}"
    if not finding.keys:
        return text
    more = ", ..." if finding.count > len(finding.keys) else ""
    return f"{text} ({finding.count}: {', '.join(finding.keys)}{more})"


def _counts(findings: Sequence[Finding]) -> str:
    severities = [each.severity for each in findings]
    errors, warnings = severities.count("error"), severities.count("warning")
    if not findings:
        return "nothing found"
    return f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
