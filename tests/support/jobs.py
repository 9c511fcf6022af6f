"""Stand-ins for workers, and runs that stand somewhere without one."""

import contextlib
import os

import filelock
import numpy as np

from engine import home as homes
from engine import load_preset
from engine.host import processes
from engine.jobs import jobs
from engine.runs import checkpoint, queue, runs
from engine.runs.queue import Handle
from tests.support.browser import GrowingRun


def worker(pid: int) -> Handle:
    """The handle of a process that stands for a worker."""
    return Handle("local", processes.identity(pid))


@contextlib.contextmanager
def home_at_rest(folder, monkeypatch):
    """An empty home in which nothing is ever started: it holds the supervisor's lock."""
    monkeypatch.setenv("GRAFT_HOME", str(folder))
    home = homes.home()
    with filelock.FileLock(home / jobs.LOCK):
        yield home


def made(home, name, status="queued", step=None, **state):
    """A run that stands somewhere; with a checkpoint at a step; in the queue if it waits."""
    run = runs.create(load_preset("sample", [f"name={name}"]), home)
    if step is not None:
        at = {"stage": 1, "epoch": 2, "batch": 0, "step": step, "ended": False}
        checkpoint.Checkpoints(run.path).save(at, {"w": np.zeros(1)})
    run.update(status=status, **state)
    if status == "queued":
        queue.add(home, run.id)
    return run


def finished(home, name="done"):
    """A run with something that stands for a model."""
    run = made(home, name, "finished", started=1.0, ended=2.0)
    (run.path / "inference.tflite").write_bytes(b"stands for a model")
    return run


def busy_run(home):
    """A run in progress that has the only place."""
    growing = GrowingRun(home)
    queue.add(home, growing.run.id)
    queue.claim(home, ["cpu"], 1, lambda *_: worker(os.getpid()))
    growing.run.update(device="cpu")
    growing.grow(20)
    return growing
