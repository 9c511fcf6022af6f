"""The process that executes one run: `python -m engine.jobs.worker RUN_FOLDER`.

Unless it is killed, it writes a status and one sentence to the run's folder; after a kill the
supervisor does.
"""

import contextlib
import os
import platform
import signal
import subprocess
import sys
import threading
import time
import traceback
from importlib import metadata
from pathlib import Path
from typing import Any

import filelock

from engine import home as homes
from engine import roots
from engine.errors import GraftError, unexpected
from engine.estimate import outlook
from engine.host import device, limits
from engine.host.signals import Paused, Stopped
from engine.jobs import executors, jobs
from engine.runs import checkpoint, ending, files, queue, runs
from engine.runs.events import EventLog
from engine.runs.runs import Run

HEARTBEAT = 2
"""Seconds between two touches of the heartbeat file."""
RESERVE = 256 * 1024
"""Bytes kept on the disk for the last event and status of a run, in case the disk fills up."""


def main(folder: str) -> int:
    """Executes the run in a folder; returns the exit code."""
    run = Run(folder)
    home = run.home
    holder = queue.holder(home, run.id, claimed=True)
    if not holder or not executors.mine(holder):
        print("this worker has no place in the queue", file=sys.stderr)
        return 3
    lock = filelock.FileLock(run.path / files.LOCK)
    lock.acquire()
    if run.state["status"] != "starting":
        print(f"the run is {run.status}: another process has ended it", file=sys.stderr)
        return 3
    roots.restore(run.state.get("reads"))
    limits.limit_memory(limits.memory_limit(home))
    ask, begun = _Request(run), time.time()
    run.update(status="running", started=begun, answered=None, finishing=None, events_from=None)
    threading.Thread(target=_beat, args=(run.path / files.HEARTBEAT,), daemon=True).start()
    result = _execute(run, home, ask)
    if result["status"] == "paused" and ask.ended_by_host:
        result |= {"status": "interrupted", "error": runs.ENDED_BY_HOST}
    (run.path / files.RESERVE).unlink(missing_ok=True)
    ending.end(run, seconds=time.time() - begun, **result)
    jobs.supervise(home)  # if the supervisor was killed, others may wait
    return 1 if result["status"] == "failed" else 0


def _execute(run: Run, home: Path, ask: "_Request") -> dict[str, Any]:
    """Trains; returns how it ended as plain data, whatever happens."""
    try:
        _set_aside(run)
        (run.path / files.MANIFEST).unlink(missing_ok=True)  # of an end that did not last
        log = EventLog(run.path / files.EVENTS)
        run.update(events_from=log.size)
        events = outlook.Timed(run, log, run.started or time.time())
        homes.write_json(run.path / files.ENVIRONMENT, environment())
        events.write("phase", phase="start", text="Starting TensorFlow", done=0, total=None)
        from engine.train import training

        result = training.train(run, home, events, ask)
        events.keep()
        return result
    except Paused as pause:
        (run.path / files.PAUSE).unlink(missing_ok=True)
        text = pause.text or "Paused; it will be resumed exactly here."
        return {"status": "paused", "error": pause.text or None, "text": text}
    except Stopped:
        if checkpoint.Checkpoints(run.path).listed():
            text = "Paused: it was stopped before its checkpoint was restored."
            return {"status": "paused", "error": None, "text": text}
        text = "Stopped before the first training step, so there is no model."
        return {"status": "stopped", "text": text}
    except GraftError as error:
        return {"status": "failed", "error": str(error), "text": str(error)}
    except Exception as error:
        traceback.print_exc()
        if checkpoint.disk_full(error):
            text = (
                f"the disk of Graft's home {home} is full, so the run was paused; free some space, "
                "then resume it from its last checkpoint"
            )
            return {"status": "paused", "error": text, "text": text}
        if _is_memory(error):
            batch = limits.smaller_batch(run.recipe.batch_size)
            text = limits.out_of_memory_text(batch)
            return {"status": "failed", "error": text, "text": text, "proposed_batch_size": batch}
        text = unexpected(error, "training", "the log")
        return {"status": "failed", "error": text, "text": text}


def _set_aside(run: Run) -> None:
    """Takes RESERVE bytes of the disk now, to be freed before the last event is written."""
    with open(run.path / files.RESERVE, "wb") as file:
        # Random bytes: a file system that compresses would store zeros in no space.
        file.write(os.urandom(RESERVE))
        os.fsync(file.fileno())


def _beat(path: Path) -> None:
    """Touches a file as long as this process lives and is not suspended."""
    while True:
        with contextlib.suppress(OSError):  # the disk is full, or the run's folder is gone
            path.touch()
        time.sleep(HEARTBEAT)


def environment() -> dict[str, Any]:
    """Versions, device and git commit, to repeat the run."""
    packages = ("tensorflow", "keras", "tensorflow-datasets", "ai-edge-litert", "numpy", "pillow")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in packages},
        "device": device.describe(),
        "git_commit": _commit(),
    }


def _commit() -> str | None:
    """The project's commit, with + if files differ; None outside a git checkout."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", "-C", homes.PROJECT, *arguments], capture_output=True, text=True
        )

    try:
        commit = git("rev-parse", "HEAD")
        if commit.returncode:
            return None
        changed = git("status", "--porcelain", "--untracked-files=no").stdout.strip()
        return commit.stdout.strip() + ("+" if changed else "")
    except OSError:  # no git on this host
        return None


class _Request:
    """Returns what a user asks of the run when called: "stop", "pause" or "".

    Attributes:
        ended_by_host: whether the process was asked to terminate, as when the host or its service
            restarts: the run then pauses, and counts as interrupted.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._looked = run, 0.0
        self._asked = "stop" if run.state.get("stop_asked") else ""
        self.ended_by_host = False
        signal.signal(signal.SIGTERM, self._terminate)

    def _terminate(self, *_: object) -> None:
        self._asked, self.ended_by_host = self._asked or "pause", True

    def __call__(self) -> str:
        if not self._asked and time.monotonic() - self._looked > 0.2:
            self._looked = time.monotonic()
            for what in (files.STOP, files.PAUSE):
                if (self._run.path / what).exists():
                    self._asked = what
                    # The supervisor ends a worker that does not answer.
                    self._run.update(answered=what)
                    break
        return self._asked


def _is_memory(error: BaseException) -> bool:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    # One that was raised inside tf.data arrives wrapped in another.
    memory = kinds & {"MemoryError", "ResourceExhaustedError"}
    return bool(memory) or limits.speaks_of_memory(str(error))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
