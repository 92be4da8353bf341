"""Fewer channels for a trained network: which are kept, and what it costs in accuracy."""
