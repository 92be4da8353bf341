"""What was measured: visits, the measurements they add up to, the SQLite table of them."""

from lutra.tables.measurement import Failure, Imported, Measurement, Row, Visit
from lutra.tables.table import LatencyTable, opened_table
from lutra.tables.target import Target

__all__ = [
    "Failure",
    "Imported",
    "LatencyTable",
    "Measurement",
    "Row",
    "Target",
    "Visit",
    "opened_table",
]
