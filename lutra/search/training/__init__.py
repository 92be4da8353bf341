"""Searches that train: Single-Path, and the pipeline that shrinks a network step by step."""
