"""The process that looks after a home's runs: `python -m engine.jobs.supervisor HOME`.

One for a home at a time (a file lock), started by whoever needs it, in a session of its own; it ends
when nothing waits and nothing runs. It gives devices to waiting runs, reaps their workers, says how
they ended if they could not say so themselves, ends a worker that takes too much memory or does not
answer a stop or a pause, and takes interrupted runs up if the settings say so. Killed, it is
started again by the next page, command or worker, and finds the workers by pid and start time.
"""

import signal
import sys
import time
from pathlib import Path

import filelock
import psutil

from engine import home as homes
from engine.errors import DamagedFile, GraftError
from engine.host import device, limits, processes, settings
from engine.jobs import jobs
from engine.runs import checkpoint, ending, queue, runs
from engine.runs.events import EventLog

EVERY = 0.25
"""Seconds between two looks."""
PATIENCE = 8
"""Seconds in which a worker should answer a stop or a pause; then it is ended, and what was asked is
done from its last checkpoint."""
IDLE = 2
"""Seconds without work before it ends."""
NEAR_LIMIT = 0.7
"""Share of the memory limit above which the death of a worker is put down to it: the wish that was
refused may have been large, and no look saw it granted."""
SEARCH = 60
"""Seconds between two searches for runs that nobody has in hand."""
MAKING = 60
"""Seconds in which whoever makes a run has also put it into the queue."""
TRIES = 3
"""How often an interrupted run is taken up by itself without getting further."""


class Supervisor:
    """Looks after the runs of one home."""

    def __init__(self, home):
        self.home, self.children, self.ended, self.unsettled = Path(home), {}, {}, []
        self.most = {}  # bytes of memory that each run was seen to take
        self.log_from = {}  # where the words of a run's last worker begin in its log
        self.searched = float("-inf")

    def look(self) -> bool:
        """One round; returns whether there is anything to wait for."""
        for run, child in list(self.children.items()):
            if child.poll() is not None:
                del self.children[run]
                if run in self.ended or child.returncode:
                    self.ended.setdefault(run, f"exit code {child.returncode}")
        for slot in queue.slots(self.home):
            if processes.alive(slot):
                self.watch(slot)
            else:
                # Settled before the place is free: until then nobody calls the run interrupted.
                again = self.try_to_settle(slot["run"])
                queue.release(self.home, slot["run"], slot["pid"])
                if again:
                    again()
                elif runs.Run(self.home / "runs" / slot["run"]).status == "queued":
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

    def settle_all(self):
        """Settles what can be settled; one that cannot, for want of room on the disk, comes again."""
        waiting, self.unsettled = self.unsettled, []
        for identity in waiting:
            again = self.try_to_settle(identity)
            if again:
                again()

    def try_to_settle(self, identity):
        """`settle`, or a note to try it again."""
        try:
            return self.settle(identity)
        except DamagedFile as error:
            say(error)  # pages show the run as failed, with this sentence
        except (GraftError, OSError) as error:
            say(error)
            self.unsettled.append(identity)
        return None

    def find_interrupted(self):
        """After a crash of the host: runs that say they work, but have neither place nor process."""
        held = {slot["run"] for slot in queue.slots(self.home)} | set(queue.waiting(self.home))
        for run in runs.list_runs(self.home):
            try:
                state = homes.read_json(run.path / "status.json", {})
            except DamagedFile:
                continue  # its own page says so
            if run.id in held or run.id in self.unsettled:
                continue
            if state.get("status") in ("starting", "running") and not processes.alive(state):
                self.unsettled.append(run.id)
            elif state.get("error") == runs.ENDED_BY_HOST:
                if state["status"] == "interrupted" and settings.get(self.home)["auto_resume"]:
                    jobs.resume(run)
            elif state.get("status") == "queued" and time.time() - run.created > MAKING:
                queue.add(self.home, run.id)  # its maker died between the two writes

    # -- starting -----------------------------------------------------------------------------

    def launch(self, identity, place):
        """Starts a run's worker on a device; see `engine.runs.queue.claim`."""
        run = runs.Run(self.home / "runs" / identity)
        if run.state["status"] not in runs.ACTIVE or not (run.path / "recipe.yaml").exists():
            return None  # it was cancelled or deleted meanwhile
        # The numbers that nvidia-smi gives, and no GPU that belongs to another run.
        environment = processes.environment() | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
        if place.startswith("gpu:"):
            environment["CUDA_VISIBLE_DEVICES"] = place.removeprefix("gpu:")
        log = run.path / "worker.log"
        self.log_from[identity] = log.stat().st_size if log.exists() else 0
        self.most.pop(identity, None)
        child = processes.spawn("engine.jobs.worker", run.path, log=log, **environment)
        who = processes.identity(child.pid)
        if who["born"] is None:  # it ended at once; its log says why
            who["born"] = 0.0
        run.update(
            status="starting",
            device=place,
            error=None,
            attempts=run.state.get("attempts", 0) + 1,
            **who,
        )
        self.children[identity] = child
        return who

    # -- while it runs ------------------------------------------------------------------------

    def watch(self, slot):
        """Ends a worker that takes too much memory, or does not answer."""
        run = runs.Run(self.home / "runs" / slot["run"])
        try:
            taken = psutil.Process(slot["pid"]).memory_info().rss
        except psutil.NoSuchProcess:
            return
        limit = limits.memory_limit(self.home)
        self.most[run.id] = max(taken, self.most.get(run.id, 0))
        if taken > limit:
            self.ended[run.id] = limits.OUT_OF_MEMORY
            processes.end(slot)
            return
        state = run.state
        for what in ("stop", "pause"):
            asked = run.path / what
            if state.get("answered") or (what == "stop" and state.get("finishing")):
                return
            if asked.exists() and time.time() - asked.stat().st_mtime > PATIENCE:
                self.ended[run.id] = what
                processes.end(slot)
                return

    # -- when it has ended --------------------------------------------------------------------

    def settle(self, identity):
        """Says how a run ended whose worker could not.

        Returns:
            What is to be done once its place is free: a function that queues it again; or None.
        """
        run = runs.Run(self.home / "runs" / identity)
        if not run.path.exists():  # filelock would make the folder again
            return None
        with ending.alone(run):
            return self.settled(run, self.ended.pop(identity, ""))

    def settled(self, run, why):
        """`settle`, while no other process writes how the run ended."""
        identity, state = run.id, homes.read_json(run.path / "status.json", {})
        if state.get("status") == "queued":
            return lambda: queue.add(self.home, identity)  # resumed before its last process ended
        if state.get("status") not in ("starting", "running"):
            return None
        if state["status"] == "running" and ending.complete(run, state.get("events_from")):
            return None
        position = checkpoint.Checkpoints(run.path).position()
        stop = (run.path / "stop").exists() or state.get("stop_asked")
        if (run.path / "kill").exists():
            (run.path / "kill").unlink()
            ending.end(run, "failed", runs.KILLED, error=runs.KILLED)
        elif stop and position is None:
            (run.path / "stop").unlink(missing_ok=True)
            text = "Stopped before its first checkpoint, so there is no model."
            ending.end(run, "stopped", text)
        elif stop and state.get("attempts", 0) < TRIES:
            # To finish from its checkpoint; the file, which is old by now, must not end it again.
            note(run, "The worker ended before it could stop: it finishes from its checkpoint.")
            run.update(status="queued", stop_asked=True)
            (run.path / "stop").unlink(missing_ok=True)
            return lambda: queue.add(self.home, identity, first=True)
        elif (run.path / "pause").exists():
            (run.path / "pause").unlink()
            ending.end(run, "paused", "Paused; it is resumed from its last checkpoint.")
        elif why == limits.OUT_OF_MEMORY or self.died_of_memory(run, why):
            batch = limits.smaller_batch(run.recipe.batch_size)
            text = limits.out_of_memory_text(batch)
            ending.end(run, "failed", text, error=text, proposed_batch_size=batch)
        else:
            return self.interrupted(run, state, position)
        return None

    def died_of_memory(self, run, how) -> bool:
        """Whether a worker that could say nothing itself ran out of memory: it took most of what it may,
        or ended by itself (`how`, its exit code in words) and said so in its log."""
        if self.most.pop(run.id, 0) > NEAR_LIMIT * limits.memory_limit(self.home):
            return True
        log = run.path / "worker.log"
        with open(log, "rb") as file:
            file.seek(max(self.log_from.get(run.id, 0), log.stat().st_size - 10_000))
            said = file.read().decode(errors="replace")
        return bool(how) and limits.speaks_of_memory(said)

    def interrupted(self, run, state, position):
        """Says so; returns what takes it up again if the settings say so and it got further than the
        last time."""
        step = -1 if position is None else position["step"]
        tries = 0 if step > state.get("tried_at", -2) else state.get("tries", 0) + 1
        ended, again = last_word(run), settings.get(self.home)["auto_resume"] and tries < TRIES
        if again:
            note(run, "The worker stopped unexpectedly; the run is resumed by itself.")
        why, facts = runs.INTERRUPTED, {"tries": tries, "tried_at": step}
        ending.end(run, "interrupted", why, ended=ended, error=why, **facts)
        return (lambda: jobs.resume(run)) if again else None


def say(error) -> None:
    """Writes to the supervisor's log."""
    print(f"{time.strftime('%F %T')} {error}", file=sys.stderr, flush=True)


def note(run, text) -> None:
    """Writes to a run's log, which nobody else writes now."""
    EventLog(run.path / "events.jsonl").write("note", text=text)


def last_word(run) -> float:
    """Unix seconds of a run's last event, or now."""
    log = run.path / "events.jsonl"
    return log.stat().st_mtime if log.exists() else time.time()


def main(home: str) -> int:
    homes.home(home)
    lock = filelock.FileLock(Path(home) / jobs.LOCK)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            return 0  # another one looks after this home
        supervisor, since, pause = Supervisor(home), time.monotonic(), EVERY
        while time.monotonic() - since < IDLE:
            try:
                if supervisor.look():
                    since = time.monotonic()
                pause = EVERY
            except (GraftError, OSError, psutil.Error) as error:
                # A full disk, above all: what is to be written waits until there is room.
                say(error)
                since, pause = time.monotonic(), min(2 * pause, 10)
            time.sleep(pause)
        lock.release()
        # A run that was queued while the lock was still held, its maker trusting in us.
        if not queue.busy(home):
            return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
