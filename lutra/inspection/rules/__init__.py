"""One module for each kind of fault that published tables had."""
