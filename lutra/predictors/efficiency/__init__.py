"""Latency, multiply-accumulates and parameters of architectures."""
