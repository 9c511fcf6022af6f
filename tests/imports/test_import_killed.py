"""An import whose process is killed: the process that loads the model ends, and its folder goes."""

import os
import resource
import subprocess
import sys

import numpy as np
import psutil
import pytest

from engine import home as homes
from engine.imports import imports
from engine.runs import runs
from tests.support import crafted_models
from tests.support.browser import server

# As a page does: in a thread that is not the main one.
IN_A_THREAD = """
import sys, threading
from engine import actions, home
thread = threading.Thread(target=actions.import_run, args=(sys.argv[1], home.home()))
thread.start()
thread.join()
"""
COMMAND = [sys.executable, "-m", "engine", "import"]


def loads(importing):
    """The process that loads the model, once it is about to; it then stands still."""
    while importing.poll() is None:
        for child in psutil.Process(importing.pid).children():
            # Its limits come after what ties it to its parent.
            if child.rlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
                child.suspend()
                return child
    raise AssertionError("the import ended before it was killed")


@pytest.mark.parametrize("command", [COMMAND, [sys.executable, "-c", IN_A_THREAD]])
def test_a_killed_import_leaves_no_process_and_no_folder(own_home, tmp_path, command):
    weights = crafted_models.weights(np.eye(3, dtype="f4"), np.zeros(3, "f4"))
    path = crafted_models.keras_file(tmp_path / "a.keras", crafted_models.config(), weights)
    importing = subprocess.Popen(
        [*command, str(path)],
        env=os.environ | {"GRAFT_HOME": str(own_home)},
        stderr=subprocess.DEVNULL,
    )
    child = loads(importing)
    importing.kill()
    importing.wait()
    gone, alive = psutil.wait_procs([child], timeout=60)  # it cannot end by itself
    for each in alive:
        each.kill()
    assert gone == [child]
    assert len(left := list((own_home / homes.RUNS).glob(".import.*"))) == 1
    assert runs.list_runs(own_home) == []
    if command is COMMAND:
        with server(own_home, tmp_path / "server.log"):
            assert not left[0].exists()
    else:
        imports.sweep(own_home)
        assert not left[0].exists()
