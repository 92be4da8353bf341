"""What was measured: measurements, the SQLite table, and how parts add up."""

from lutra.tables.measurement import Failure, Measurement, Row, Visit
from lutra.tables.table import LatencyTable, opened_table
from lutra.tables.target import Target

__all__ = ["Failure", "LatencyTable", "Measurement", "Row", "Target", "Visit", "opened_table"]
