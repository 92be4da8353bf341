"""Every target by name: what both drivers run, and the tests."""

from __future__ import annotations

from tests.fuzz import commands, devices, documents, imports, models, records, supernets, tables
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (tables, imports, records, documents, supernets, models, devices, commands)
    for target in module.TARGETS
}
