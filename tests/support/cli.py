"""The command line: in this process, or in one of its own."""

import contextlib
import io
import os
import subprocess
import sys
from unittest import mock

from engine.cli.main import main


def graft(*arguments, home):
    """Runs `engine.cli.main` and returns what a finished process would; its start is saved."""
    line = ["engine", *map(str, arguments)]
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with (
        mock.patch.object(sys, "argv", line),
        mock.patch.dict(os.environ, {"GRAFT_HOME": str(home)}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            code = main()
        except SystemExit as ended:
            code = ended.code or 0
    said = []
    for stream in (out, err):
        stream.flush()
        said.append(stream.buffer.getvalue().decode())
    return subprocess.CompletedProcess(line, code, *said)


def graft_process(*arguments, home):
    """Runs `python -m engine …` and returns the finished process."""
    command = [sys.executable, "-m", "engine", *map(str, arguments)]
    environment = os.environ | {"GRAFT_HOME": str(home)}
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=environment, timeout=600
    )
