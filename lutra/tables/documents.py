"""What a table keeps about each space beside rows: how its ops add up, and how well."""

from __future__ import annotations

from typing import Any

from lutra.tables.table import LatencyTable

CALIBRATION = "calibration"
VALIDATION = "validation"


def read_document(table: LatencyTable, name: str, space: str) -> dict[str, Any] | None:
    """The calibration or validation of one space; None where there is none."""
    documents = table.meta(name)
    found = documents.get(space) if isinstance(documents, dict) else None
    return found if isinstance(found, dict) else None


def store_document(
    table: LatencyTable, name: str, space: str, document: dict[str, Any] | None
) -> None:
    """Keep a calibration or validation of one space; None withdraws it."""
    documents = table.meta(name)
    merged = dict(documents) if isinstance(documents, dict) else {}
    table.put_meta(name, {**merged, space: document})
