"""Several objectives at once: the networks that are better than any other in something."""
