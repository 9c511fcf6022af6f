"""`python -m engine`: the command line, see `engine.cli.options`."""

from engine.cli.main import main

main()
