"""The command line: a module for each noun; `engine.cli.main` collects their commands."""
