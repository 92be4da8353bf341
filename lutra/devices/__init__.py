"""Where networks run: one file per adapter, and below it what adapters are made of."""
