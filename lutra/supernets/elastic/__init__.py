"""Weights of every network of a space in one: elastic layers, their names, their order."""
