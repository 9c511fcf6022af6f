"""Background jobs: one protocol for all work that a page does not wait for.

A job is a file, its *request*, and a process: `Job.start` writes the request and starts `python -m
engine.host.background_worker REQUEST HOME`, which writes its progress into the request, and at the
end a result or one error sentence. The request names the process by pid and birth, so every
process, also after a restart of the server, finds the job by its path, watches it or cancels it.

A kind of job is an entry of `KINDS` and a function `work(home, report, **parameters)` that returns
plain data. Training runs need more, a queue and devices, and have their own package
(`engine.jobs`). Light.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypedDict

import filelock

from engine import home as homes
from engine import roots
from engine.errors import GraftError
from engine.host import processes


class Report(Protocol):
    """How work reports its progress.

    Args:
        text: what is being done, one line; figures follow a colon ("Downloading: 5 of 20 MiB").
        done: how much of it is done; of another text it starts again.
        total: how much there is in all; None if unknown.
    """

    def __call__(self, text: str, done: int = 0, total: int | None = None, /) -> None: ...


def silent(text: str, done: int = 0, total: int | None = None, /) -> None:
    """A `Report` for work whose progress nobody watches."""


class Progress(TypedDict):
    """How far a job is: `Report`'s arguments; the phase, which is the text without figures; and the
    seconds left by the pace of the phase, None if unknown."""

    phase: str
    text: str
    done: int
    total: int | None
    eta_seconds: float | None


class JobState(Progress):
    """What is known of a job.

    Keys, in addition to those of `Progress`:
        kind: of `KINDS`.
        state: "missing", "running", "done" or "failed".
        error: why it failed, one sentence; otherwise None.
        result: plain data of a job that is done; otherwise None.
    """

    kind: str
    state: str
    error: str | None
    result: Any


ROOM = 2**20
"""Bytes of free disk below which a job that stopped unexpectedly had no room for its results."""


@dataclass(frozen=True)
class Kind:
    """A kind of job.

    Attributes:
        work: "module:function" that does the work.
        noun: the job in messages.
        remedy: what to do after it stopped unexpectedly.
        nice: by how much the process lowers its own priority, 0 to 19 (nice(2)).
    """

    work: str
    noun: str
    remedy: str = "start it again"
    nice: int = 0


KINDS = {
    "prepare": Kind("engine.data.prepare_worker:prepare", "preparing the dataset"),
    # A run that trains at the same time gets nine tenths of a core that both want (sched(7): each
    # step is worth a factor of 1.25).
    "inspection": Kind(
        "engine.inspection.worker:inspect",
        "the inspection",
        "start it again, and it continues where it stopped",
        10,
    ),
    "preflight": Kind("engine.estimate.preflight_worker:measure", "the measurement"),
    "rates": Kind("engine.estimate.rate_test_worker:measure", "the measurement"),
    "payback": Kind("engine.inspection.payback_worker:measure", "the comparison"),
    "batch": Kind(
        "engine.predict.batch_worker:measure",
        "the classification",
        "the answers so far are kept, so classify the other images again",
    ),
    "export": Kind("engine.exports.worker:measure", "the export"),
    "restore": Kind("engine.doctor.restore_worker:restore", "the restoring"),
}


@dataclass(frozen=True)
class Job:
    """A background job, whether it was started or not.

    Attributes:
        path: of the request; the log has the same name with the suffix .log.
        kind: of `KINDS`.
    """

    path: Path
    kind: str

    def start(
        self, home: Path, environment: dict[str, str] | None = None, **parameters: Any
    ) -> None:
        """Starts the job; does nothing while it is running.

        Args:
            home: Graft's home.
            environment: variables to set for the process.
            parameters: of the work, plain data; a `recipe` and a `spec` arrive there as Recipe and
                DatasetSpec.
        """
        homes.writable(home)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with lock_of(self.path):  # two tabs may ask at once
            if self.state()["state"] == "running":
                return
            log = self.path.with_suffix(".log")
            log.unlink(missing_ok=True)
            child = processes.spawn(
                "engine.host.background_worker",
                self.path,
                home,
                log=log,
                **processes.environment() | roots.environment() | (environment or {}),
            )
            _children.append(child)
            # The process waits for the lock.
            request = {"kind": self.kind, "parameters": parameters, "started": time.time()}
            homes.write_json(
                self.path, request | {"text": "Starting"} | processes.identity(child.pid)
            )

    def request(self) -> dict[str, Any]:
        """The request as it is now; empty if there is none."""
        return homes.read_json(self.path, {})

    def state(self) -> JobState:
        """How far the job is."""
        _children[:] = [child for child in _children if child.poll() is None]
        found, error = self.request(), None
        if "result" in found:
            state = "done"
        elif error := found.get("error"):
            state = "failed"
        elif processes.alive(found):
            state = "running"
        elif "kind" in found:
            kind, state = KINDS[self.kind], "failed"
            error = f"{kind.noun} stopped unexpectedly; {kind.remedy}"
            if shutil.disk_usage(self.path.parent).free < ROOM:
                error = f"{kind.noun} stopped because the disk is full; free some space, then "
                error += kind.remedy
        else:
            state = "missing"
        return JobState(
            kind=self.kind,
            state=state,
            phase=found.get("phase", ""),
            text=found.get("text", ""),
            done=found.get("done", 0),
            total=found.get("total"),
            eta_seconds=found.get("eta_seconds"),
            error=error,
            result=found.get("result"),
        )

    def pid(self) -> int | None:
        """The process that does the work; None if the job is not running."""
        found = self.request()
        return found["pid"] if processes.alive(found) else None

    def cancel(self, result: Any = None) -> None:
        """Ends the job if it is running.

        Args:
            result: what then stands for the result of a job that has none; None to forget the job,
                and its result.
        """
        if not self.path.parent.exists():
            return
        with lock_of(self.path):
            processes.end(self.request())
            if result is None:
                self.path.unlink(missing_ok=True)
            elif "result" not in (found := self.request()):
                homes.write_json(self.path, found | {"result": result})

    def wait(self, progress: Callable[[JobState], object] | None = None) -> Any:
        """Waits for the end of the job and returns its result; see `wait_for` and `result_of`."""
        return result_of(wait_for(self.state, progress))


def lock_of(request: Path) -> filelock.FileLock:
    """Held while a job is started or cancelled.

    Args:
        request: the job's `path`.
    """
    return filelock.FileLock(request.with_suffix(".lock"))


def wait_for(
    ask: Callable[[], JobState], progress: Callable[[JobState], object] | None = None
) -> JobState:
    """Waits until a job is no longer running.

    Args:
        ask: returns the job's state, such as `Job.state`.
        progress: called with the state several times a second.

    Returns:
        The last state.
    """
    while (now := ask())["state"] == "running":
        if progress:
            progress(now)
        time.sleep(0.2)
    return now


def result_of(now: JobState) -> Any:
    """The result of a job that has ended.

    Raises:
        GraftError: if it failed or was cancelled.
    """
    if now["state"] != "done":
        raise GraftError(now["error"] or f"{KINDS[now['kind']].noun} was cancelled")
    return now["result"]


_children: list[subprocess.Popen] = []
"""Processes that this one started; polling them keeps an ended one from staying a zombie."""
