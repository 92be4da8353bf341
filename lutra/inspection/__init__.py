"""What a table's numbers look like: is it sound."""
