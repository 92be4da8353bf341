"""Sessions over the worker: on this machine, and on boards."""
