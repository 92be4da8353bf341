"""How searches move through rows, and a first row that meets all limits."""
