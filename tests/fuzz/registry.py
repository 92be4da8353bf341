"""Every target by name: what both drivers run, and the tests."""

from __future__ import annotations

from tests.fuzz import commands, devices, documents, models, tables
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (tables, documents, models, devices, commands)
    for target in module.TARGETS
}
