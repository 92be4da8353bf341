"""`lutra report`: a page about tables and search results, in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lutra.errors import UsageError
from lutra.files import check_output, write_atomically
from lutra.files.kinds import REPORT
from lutra.report.content import Content
from lutra.report.figures.drawing import require_matplotlib
from lutra.report.page import page
from lutra.search.result import SearchResult
from lutra.tables import LatencyTable

_MOST_BYTES = 2 << 20


def write_report(
    tables: Sequence[LatencyTable | str | Path],
    results: Sequence[SearchResult | str | Path],
    path: str | Path,
) -> None:
    """Write one HTML page about tables, and what searches found on them, that needs nothing else.

    With figures of predictions and their errors, of where time goes, of ops, of drift and noise
    and of the ``results``, which may be none; where a figure has nothing to show, the page says
    why. The same tables and results give the same bytes. It has at most 2 MiB.

    Raises `TableError` and `ResultError` for what cannot be read or written, and `UsageError` for
    no tables, more than the page can hold, a file of another kind at ``path`` and where matplotlib
    is missing.

    >>> write_report(["cpu.lut"], ["result.json"], "report.html")
    >>> with open("report.html") as page:
    ...     page.read().count("<svg")
    6
    """
    path = Path(path)
    check_output(path, REPORT)
    require_matplotlib()
    if not tables:
        raise UsageError("a report is about a table at least; name one")
    found = [
        result if isinstance(result, SearchResult) else SearchResult.read(result)
        for result in results
    ]
    data = page([Content.read(table) for table in tables], found).encode()
    if len(data) > _MOST_BYTES:
        raise UsageError(
            f"the report would be {len(data) / 2**20:.1f} MiB, and is at most 2: report on fewer"
            " tables or results at once"
        )
    write_atomically(path, data, kind=REPORT)
