"""Whole networks that tables measured: what they took, and how far off predictions are."""
