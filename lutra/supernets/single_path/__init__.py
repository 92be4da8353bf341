"""Single-Path NAS: weights and architecture in one training of the largest network."""
