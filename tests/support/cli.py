"""The command line in a process of its own."""

import subprocess
import sys


def graft(*arguments, home):
    """Runs `python -m engine …` and returns the finished process."""
    command = [sys.executable, "-m", "engine", *map(str, arguments)]
    environment = {**__import__("os").environ, "GRAFT_HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
