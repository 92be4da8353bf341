"""Weights in files: ours and published ones, where those come from, and what comes with lutra."""
