"""What a table keeps about each space beside rows: how its ops add up, and how well."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lutra.tables.table import LatencyTable

CALIBRATION = "calibration"
VALIDATION = "validation"
PRIOR = "prior"
_OPS = "ops_digest"


def ops_digest(latencies_ms: Mapping[str, float]) -> str:
    """What tells one state of a table's ops (key -> ms) from another."""
    text = json.dumps(sorted(latencies_ms.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_stale(document: Mapping[str, Any], latencies_ms: Mapping[str, float]) -> bool:
    """Whether a document speaks of ops that were measured or corrected since it was stored.

    False for one of before this was kept.
    """
    known = document.get(_OPS)
    return known is not None and known != ops_digest(latencies_ms)


def read_document(table: LatencyTable, name: str, space: str) -> dict[str, Any] | None:
    """The calibration, validation or prior of one space; None where there is none."""
    documents = table.meta(name)
    found = documents.get(space) if isinstance(documents, dict) else None
    return found if isinstance(found, dict) else None


def store_document(
    table: LatencyTable, name: str, space: str, document: dict[str, Any] | None
) -> None:
    """Keep such a document of one space, of the ops as they are; None withdraws it."""
    documents = table.meta(name)
    merged = dict(documents) if isinstance(documents, dict) else {}
    if document is not None:
        document = {**document, _OPS: ops_digest(table.op_latencies())}
    table.put_meta(name, {**merged, space: document})
