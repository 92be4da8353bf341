"""What a table does not hold: latencies of ops told from those of others, or of whole networks."""
