"""From graph and weights to the model files that runtimes load; reading users' own files."""
