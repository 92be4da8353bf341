"""Formats of others: their latency tables, read as ours."""
