"""What to choose: the most accurate networks within limits, measured and exported."""
