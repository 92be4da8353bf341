"""Hostile inputs by the million: ``python -m tests.fuzz --minutes 60``; see docs/security.md."""
