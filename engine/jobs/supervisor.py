"""The process that looks after a home's runs: `python -m engine.jobs.supervisor HOME`.

There is one for a home at a time (a file lock). Whatever needs it starts it, in a session of its
own, and it exits when nothing waits and nothing runs. It gives devices to waiting runs and writes
how they ended if their workers could not. It ends a worker that takes too much memory or does not
answer a stop or a pause, and resumes interrupted runs if the settings say so. If killed, it is
started again by the next page, command or worker, and finds the workers by their handles.
"""

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import filelock
import psutil

from engine import home as homes
from engine.errors import DamagedFile, GraftError
from engine.host import device, limits, settings
from engine.jobs import executors, jobs
from engine.runs import checkpoint, ending, files, queue, runs
from engine.runs.events import EventLog

EVERY = 0.25
"""Seconds between two looks."""
PATIENCE = 8
"""Seconds for a worker to answer a stop or a pause; then it is ended, and the stop or pause is done
from its last checkpoint."""
IDLE = 2
"""Seconds without work before it ends."""
NEAR_LIMIT = 0.7
"""Share of the memory limit above which memory counts as the cause of a worker's death: its last
request may have been too large, and was never granted."""
SEARCH = 60
"""Seconds between two searches for runs that nothing takes care of."""
TRIES = 3
"""How often an interrupted run is resumed automatically without progress."""

_Next = Callable[[], object] | None
"""What to do once a run's place is free, such as queue it again."""


class Supervisor:
    """Looks after the runs of one home."""

    def __init__(self, home: Path) -> None:
        self.home = Path(home)
        self.ended: dict[str, str] = {}  # run: why its worker ended
        self.unsettled: list[str] = []
        self.most: dict[str, int] = {}  # run: bytes of memory that it was seen to take
        self.log_from: dict[str, int] = {}  # run: where its last worker's output begins in its log
        self.searched = float("-inf")

    def look(self) -> bool:
        """One round; returns whether there is anything to wait for."""
        for run, why in executors.ended():
            if why:
                self.ended.setdefault(run, why)
        for slot in queue.slots(self.home):
            if executors.alive(slot["handle"]):
                self.watch(slot)
            else:
                # Settled before the place is free; until then the run is not shown as interrupted.
                again = self.try_to_settle(slot["run"])
                queue.release(self.home, slot["run"], slot["handle"])
                if again:
                    again()
                elif runs.at(self.home, slot["run"]).status == "queued":
                    queue.add(self.home, slot["run"])  # resumed while the place was being freed
        if time.monotonic() - self.searched > SEARCH:
            self.searched = time.monotonic()
            self.find_interrupted()
        self.settle_all()
        if queue.waiting(self.home):
            each = settings.get(self.home)["runs_per_device"]
            limits.check_disk(self.home)  # raises: they wait until there is room
            queue.claim(self.home, device.devices(), each, self.launch)
        return queue.busy(self.home)

    def settle_all(self) -> None:
        """Settles what can be settled; a run that cannot, because the disk is full, is kept."""
        waiting, self.unsettled = self.unsettled, []
        for identity in waiting:
            again = self.try_to_settle(identity)
            if again:
                again()

    def try_to_settle(self, identity: str) -> _Next:
        """`settle`; if it fails, the run is tried again later."""
        try:
            return self.settle(identity)
        except DamagedFile as error:
            say(error)  # pages show the run as failed, with this sentence
        except (GraftError, OSError) as error:
            say(error)
            self.unsettled.append(identity)
        return None

    def find_interrupted(self) -> None:
        """After a crash of the host: active runs that have neither a place nor a worker."""
        held = {slot["run"] for slot in queue.slots(self.home)} | set(queue.waiting(self.home))
        for run in runs.list_runs(self.home):
            try:
                state = homes.read_json(run.path / files.STATUS, {})
            except DamagedFile:
                continue  # its own page says so
            if run.id in held or run.id in self.unsettled:
                continue
            worker = executors.recorded(state)
            if state.get("status") in ("starting", "running") and not executors.alive(worker):
                self.unsettled.append(run.id)
            elif state.get("error") == runs.ENDED_BY_HOST:
                if state["status"] == "interrupted" and settings.get(self.home)["auto_resume"]:
                    jobs.resume(run)
            elif state.get("status") == "queued" and not run.being_made:
                queue.add(self.home, run.id)  # its creator died before it could

    # -- starting -----------------------------------------------------------------------------

    def launch(self, identity: str, device: str) -> queue.Handle | None:
        """Starts a run's worker on a device; see `engine.runs.queue.claim`."""
        run = runs.at(self.home, identity)
        if run.state["status"] not in runs.ACTIVE or not (run.path / files.RECIPE).exists():
            return None  # it was cancelled or deleted meanwhile
        log = run.path / files.LOG
        self.log_from[identity] = log.stat().st_size if log.exists() else 0
        self.most.pop(identity, None)
        handle = executors.launch(run, device)
        run.update(
            status="starting",
            device=device,
            error=None,
            attempts=run.state.get("attempts", 0) + 1,
            executor=handle.executor,
            **handle.token,
        )
        return handle

    # -- while it runs ------------------------------------------------------------------------

    def watch(self, slot: dict) -> None:
        """Ends a worker that takes too much memory, or does not answer."""
        run, handle = runs.at(self.home, slot["run"]), slot["handle"]
        taken = executors.memory(handle)
        if taken is None:
            return
        limit = limits.memory_limit(self.home)
        self.most[run.id] = max(taken, self.most.get(run.id, 0))
        if taken > limit:
            self.ended[run.id] = limits.OUT_OF_MEMORY
            executors.end(handle)
            return
        state = run.state
        for what in (files.STOP, files.PAUSE):
            asked = run.path / what
            if state.get("answered") or (what == files.STOP and state.get("finishing")):
                return
            if asked.exists() and time.time() - asked.stat().st_mtime > PATIENCE:
                self.ended[run.id] = what
                executors.end(handle)
                return

    # -- when it has ended --------------------------------------------------------------------

    def settle(self, identity: str) -> _Next:
        """Writes how a run ended if its worker could not.

        Returns:
            A function to call once its place is free, which queues it again; or None.
        """
        run = runs.at(self.home, identity)
        if not run.path.exists():  # filelock would create the folder again
            return None
        with ending.alone(run):
            return self.settled(run, self.ended.pop(identity, ""))

    def settled(self, run: runs.Run, why: str) -> _Next:
        """`settle`, while no other process writes how the run ended."""
        identity, state = run.id, homes.read_json(run.path / files.STATUS, {})
        if state.get("status") == "queued":
            return lambda: queue.add(self.home, identity)  # resumed before its last process ended
        if state.get("status") not in ("starting", "running"):
            return None
        if state["status"] == "running" and ending.complete(run, state.get("events_from")):
            return None
        position = checkpoint.Checkpoints(run.path).position()
        stop = (run.path / files.STOP).exists() or state.get("stop_asked")
        if (run.path / files.KILL).exists():
            (run.path / files.KILL).unlink()
            ending.end(run, "failed", runs.KILLED, error=runs.KILLED)
        elif stop and position is None:
            (run.path / files.STOP).unlink(missing_ok=True)
            text = "Stopped before its first checkpoint, so there is no model."
            ending.end(run, "stopped", text)
        elif stop and state.get("attempts", 0) < TRIES:
            # It finishes from its checkpoint; the old file must not end it again.
            text = "The worker ended before it could stop; the run finishes from its checkpoint."
            note(run, text)
            run.update(status="queued", stop_asked=True)
            (run.path / files.STOP).unlink(missing_ok=True)
            return lambda: queue.add(self.home, identity, first=True)
        elif (run.path / files.PAUSE).exists():
            (run.path / files.PAUSE).unlink()
            ending.end(run, "paused", "Paused; it will be resumed from its last checkpoint.")
        elif why == limits.OUT_OF_MEMORY or self.died_of_memory(run, why):
            batch = limits.smaller_batch(run.recipe.batch_size)
            text = limits.out_of_memory_text(batch)
            ending.end(run, "failed", text, error=text, proposed_batch_size=batch)
        else:
            return self.interrupted(run, state, position)
        return None

    def died_of_memory(self, run: runs.Run, why: str) -> bool:
        """Whether a worker that wrote no last event ran out of memory.

        It took most of its limit; or it ended by itself (`why` has its exit code) and its log
        says so.
        """
        if self.most.pop(run.id, 0) > NEAR_LIMIT * limits.memory_limit(self.home):
            return True
        log = run.path / files.LOG
        with open(log, "rb") as file:
            file.seek(max(self.log_from.get(run.id, 0), log.stat().st_size - 10_000))
            said = file.read().decode(errors="replace")
        return bool(why) and limits.speaks_of_memory(said)

    def interrupted(self, run: runs.Run, state: dict, position: dict | None) -> _Next:
        """Writes that a run was interrupted; `jobs.resume` if the settings say so.

        After TRIES attempts without progress it is not resumed.
        """
        step = -1 if position is None else position["step"]
        tries = 0 if step > state.get("tried_at", -2) else state.get("tries", 0) + 1
        ended, again = run.last_event, settings.get(self.home)["auto_resume"] and tries < TRIES
        if again:
            note(run, "The worker stopped unexpectedly; the run is resumed automatically.")
        why, facts = runs.INTERRUPTED, {"tries": tries, "tried_at": step}
        ending.end(run, "interrupted", why, ended=ended, error=why, **facts)
        return (lambda: jobs.resume(run)) if again else None


def say(error: object) -> None:
    """Writes to the supervisor's log."""
    print(f"{time.strftime('%F %T')} {error}", file=sys.stderr, flush=True)


def note(run: runs.Run, text: str) -> None:
    """Writes a note to a run's events; no other process writes them now."""
    EventLog(run.path / files.EVENTS).write("note", text=text)


def main(path: str) -> int:
    """Looks after a home until there is nothing left to do; returns the exit code."""
    home = homes.home(path)
    lock = filelock.FileLock(home / homes.SUPERVISOR_LOCK)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            return 0  # another supervisor looks after this home
        supervisor, since, pause = Supervisor(home), time.monotonic(), EVERY
        while time.monotonic() - since < IDLE:
            try:
                if supervisor.look():
                    since = time.monotonic()
                pause = EVERY
            except (GraftError, OSError, psutil.Error) as error:
                # Mostly a full disk: what has to be written waits until there is space.
                say(error)
                since, pause = time.monotonic(), min(2 * pause, 10)
            time.sleep(pause)
        lock.release()
        # A run may have been queued while the lock was still held, so no supervisor was started.
        if not queue.busy(home):
            return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
