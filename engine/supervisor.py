"""The process that looks after a home's runs: `python -m engine.supervisor HOME`.

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

from engine import checkpoint, device, jobs, limits, processes, queue, runs, settings
from engine import home as homes
from engine.errors import GraftError
from engine.events import EventLog

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
MAKING = 60
"""Seconds in which whoever makes a run has also put it into the queue."""
TRIES = 3
"""How often an interrupted run is taken up by itself without getting further."""


class Supervisor:
    """Looks after the runs of one home."""

    def __init__(self, home):
        self.home, self.children, self.ended, self.unsettled = Path(home), {}, {}, []
        self.most = {}  # bytes of memory that each run was seen to take

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
            elif queue.release(self.home, slot["run"], slot["pid"]):
                self.unsettled.append(slot["run"])
        while self.unsettled:
            self.settle(self.unsettled[0])
            self.unsettled.pop(0)
        queue.claim(
            self.home,
            device.devices(),
            settings.get(self.home)["runs_per_device"],
            self.launch,
        )
        return queue.busy(self.home)

    def find_interrupted(self):
        """After a crash of the host: runs that say they work, but have neither place nor process."""
        held = {slot["run"] for slot in queue.slots(self.home)} | set(queue.waiting(self.home))
        for run in runs.list_runs(self.home):
            state = homes.read_json(run.path / "status.json", {})
            if run.id in held:
                continue
            if state.get("status") in ("starting", "running") and not processes.alive(state):
                self.unsettled.append(run.id)
            elif state.get("status") == "queued" and time.time() - run.created > MAKING:
                queue.add(self.home, run.id)  # its maker died between the two writes

    # -- starting -----------------------------------------------------------------------------

    def launch(self, identity, place):
        """Starts a run's worker on a device; see `engine.queue.claim`."""
        run = runs.Run(self.home / "runs" / identity)
        if not (run.path / "recipe.yaml").exists():
            return None  # it was deleted while it waited
        try:
            limits.check_disk(self.home)
        except GraftError as error:
            run.update(status="paused", error=str(error))
            return None
        environment = jobs.environment()
        if place.startswith("gpu:"):
            environment["CUDA_VISIBLE_DEVICES"] = place.removeprefix("gpu:")
        child = processes.spawn(
            "engine.worker", run.path, log=run.path / "worker.log", **environment
        )
        who = processes.identity(child.pid)
        if who["born"] is None:  # it ended at once; its log says why
            who["born"] = time.time()
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
        for what in ("pause", "stop"):
            asked = run.path / what
            if asked.exists() and time.time() - asked.stat().st_mtime > PATIENCE:
                if run.state.get("answered") != what:
                    self.ended[run.id] = what
                    processes.end(slot)

    # -- when it has ended --------------------------------------------------------------------

    def settle(self, identity):
        """Says how a run ended whose worker could not, and goes on as was asked."""
        run = runs.Run(self.home / "runs" / identity)
        state = homes.read_json(run.path / "status.json", {})
        why = self.ended.pop(identity, "")
        if state.get("status") == "queued":
            queue.add(self.home, identity)  # resumed before its last process had ended
        if state.get("status") not in ("starting", "running"):
            return
        position = checkpoint.Checkpoints(run.path).position()
        if (run.path / "pause").exists():
            (run.path / "pause").unlink()
            run.update(status="paused", error=None, ended=time.time())
        elif (run.path / "stop").exists() and position is None:
            run.update(status="stopped", error=None, ended=time.time())
        elif (run.path / "stop").exists() and state.get("attempts", 0) < 2 * TRIES:
            queue.add(self.home, identity, first=True)  # to finish from its checkpoint
            run.update(status="queued")
        elif why == limits.OUT_OF_MEMORY or self.died_of_memory(run, why):
            batch = limits.smaller_batch(run.recipe.batch_size)
            run.update(
                status="failed",
                ended=time.time(),
                error=limits.out_of_memory_text(batch),
                proposed_batch_size=batch,
            )
        else:
            self.interrupted(run, state, position)

    def died_of_memory(self, run, how) -> bool:
        """Whether a worker that could say nothing itself ran out of memory: it ended by itself (`how`,
        its exit code in words), and said so in its log or took most of what it may."""
        most = self.most.pop(run.id, 0)
        near = most > NEAR_LIMIT * limits.memory_limit(self.home)
        return bool(how) and (near or limits.speaks_of_memory(run.log_tail()))

    def interrupted(self, run, state, position):
        """Says so; takes it up again if the settings say so and it got further than the last time."""
        step = -1 if position is None else position["step"]
        tries = 0 if step > state.get("tried_at", -2) else state.get("tries", 0) + 1
        run.update(
            status="interrupted",
            ended=last_word(run),
            error=runs.INTERRUPTED,
            tries=tries,
            tried_at=step,
        )
        if settings.get(self.home)["auto_resume"] and tries < TRIES:
            EventLog(run.path / "events.jsonl").write(
                "note", text="The worker ended without a word; the run is taken up by itself."
            )
            jobs.resume(run)


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
        supervisor.find_interrupted()
        while time.monotonic() - since < IDLE:
            try:
                if supervisor.look():
                    since = time.monotonic()
                pause = EVERY
            except (GraftError, OSError) as error:
                # A full disk, above all: what is to be written waits until there is room.
                print(f"{time.strftime('%F %T')} {error}", file=sys.stderr)
                since, pause = time.monotonic(), min(2 * pause, 10)
            time.sleep(pause)
        lock.release()
        # A run that was queued while the lock was still held, its maker trusting in us.
        if not queue.busy(home):
            return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
