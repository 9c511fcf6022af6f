"""Jobs: training in a process of its own, which neither a browser nor the server can take along.

A worker gets its own session, so an interrupt of the server does not reach it, and the run's folder
is all that the two share: the server may restart meanwhile and finds the run as it is.
"""

import os
import signal
import time
from pathlib import Path

from engine import home as homes
from engine import processes, runs
from engine.errors import RunError


def start(recipe, home: Path) -> runs.Run:
    """Starts training in the background.

    Args:
        recipe: a Recipe.
        home: Graft's home.

    Returns:
        The new Run, status starting.
    """
    from engine import preflight  # which needs this module itself

    run = runs.create(recipe, home)
    preflight.attach(run, home)
    child = processes.spawn(
        "engine.worker",
        run.path,
        log=run.path / "worker.log",
        **environment(),
    )
    # The worker waits for this, so that no write of either is lost.
    run.update(status="starting", **processes.identity(child.pid))
    _children[run.path] = child
    return run


def environment() -> dict[str, str]:
    """Variables of a process that computes with TensorFlow; the user's own settings win."""
    wanted = {
        "PYTHONUNBUFFERED": "1",
        # TensorFlow's greetings would bury the lines that matter at the end of the log.
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # TensorFlow leaves oneDNN off on CPUs without AVX-512 VNNI; there it made a training step of
        # MobileNetV2 1.7 times faster (python -m benchmarks --only choices), mostly by keeping memory.
        "TF_ENABLE_ONEDNN_OPTS": "1",
    }
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


_children = {}  # so that an ended child is reaped, and is no zombie


def train(recipe, home: Path | None = None) -> runs.Run:
    """Trains and waits for the end: for scripts and notebooks. Raises RunError if it failed."""
    run = wait(start(recipe, homes.home(home)))
    if run.status == "failed":
        raise RunError(f"run {run.id} failed: {run.error}")
    return run


def wait(run: runs.Run, seconds: float | None = None) -> runs.Run:
    """Waits until the run has ended, at most so many seconds."""
    until = None if seconds is None else time.monotonic() + seconds
    while run.status in runs.ACTIVE and (until is None or time.monotonic() < until):
        time.sleep(0.2)
    return run


def active(home: Path) -> list[runs.Run]:
    """Runs that are queued, starting or running, newest first."""
    for path, child in list(_children.items()):
        if child.poll() is not None:
            del _children[path]
    return [run for run in runs.list_runs(home) if run.status in runs.ACTIVE]


def stop(run: runs.Run) -> None:
    """Asks a run to finish with the best so far; it does within a step. Raises RunError."""
    if run.status not in runs.ACTIVE:
        raise RunError(
            f"run {run.id} is not running (it is {run.status}), so there is nothing to stop"
        )
    (run.path / "stop").touch()


def kill(run: runs.Run) -> None:
    """Ends a run at once, keeping nothing but its record. Raises RunError."""
    state = run.state
    if state["status"] not in runs.ACTIVE:
        raise RunError(f"run {run.id} is not running (it is {state['status']})")
    processes.end(state)
    if run.status in runs.ACTIVE or run.status == "failed":
        run.update(status="failed", ended=time.time(), error="it was killed by a user")


def interrupt_to_stop(run: runs.Run):
    """Makes Ctrl-C in this process ask the run to stop; a second one raises KeyboardInterrupt."""

    def handler(number, frame):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if run.status in runs.ACTIVE:
            stop(run)

    return signal.signal(signal.SIGINT, handler)
