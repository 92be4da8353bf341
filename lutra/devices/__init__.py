"""Where networks run: one file per adapter, the worker, one small file per runtime."""
