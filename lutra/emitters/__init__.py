"""From graph and weights to the model files that runtimes load; what users' own files are."""
