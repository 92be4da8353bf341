"""What a rule of `lint_table` says of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]
_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """A fault: which ``rule`` says so, of ``count`` rows, with the keys of the first few.

    An ``error`` is a number that cannot be right, a ``warning`` one to look at. ``message`` is one
    line: what is wrong, and what to do.
    """

    rule: str
    severity: Severity
    message: str
    keys: tuple[str, ...] = ()
    count: int = 0


def finding(rule: str, severity: Severity, message: str, keys: Sequence[str] = ()) -> Finding:
    """A finding about rows, of which the first few are kept."""
    return Finding(rule, severity, message, tuple(keys[:_SHOWN]), len(keys))
