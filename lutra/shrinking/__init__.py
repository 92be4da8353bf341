"""One pipeline: from trained weights to a small file within its budget, step by step."""
