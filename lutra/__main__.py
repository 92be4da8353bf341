"""``python -m lutra``."""

from lutra.cli.main import main

main()
