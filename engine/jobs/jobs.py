"""Jobs: runs in a queue and in processes of their own, which neither a browser nor the server can
take along.

`start` puts a run into the queue (`engine.runs.queue`); a supervisor (`engine.jobs.supervisor`), one small process
for a home that lives while there is something to do, gives devices to waiting runs and looks after
their workers. Run folder and queue are all that server, supervisor and workers share: each of them may
die and come back, and finds things as they are.
"""

import shutil
import signal
import time
from pathlib import Path

import filelock

from engine import home as homes
from engine.errors import RunError
from engine.host import processes
from engine.runs import checkpoint, ending, queue, runs

LOCK = "supervisor.lock"


def start(recipe, home: Path) -> runs.Run:
    """Puts a new run at the end of the queue; it starts as soon as a device is free.

    Args:
        recipe: a Recipe.
        home: Graft's home.

    Returns:
        The new Run, status queued.

    Raises:
        GraftError: if the disk is nearly full, or `continue_from` names no finished run.
    """
    from engine.data import datasets
    from engine.estimate import preflight
    from engine.host import limits

    limits.check_disk(home)
    if recipe.continue_from and not runs.get_run(home, recipe.continue_from).finished:
        raise RunError(f"run {recipe.continue_from} has no model to go on from")
    if recipe.dataset.source in ("folder", "zip"):
        # Workers are started from the supervisor's folder, not from that of whoever queues a run.
        path = str(Path(recipe.dataset.path).expanduser().absolute())
        recipe = type(recipe).from_dict(
            recipe.to_dict() | {"dataset": recipe.dataset.model_dump() | {"path": path}}
        )

    def prepare(run):
        # What the recipe was made for: the worker compares, since a folder may change meanwhile.
        run.update(fingerprint=datasets.fingerprint(recipe.dataset, home))
        preflight.attach(run, home)

    return _queued(recipe, home, prepare)


def _queued(recipe, home, prepare) -> runs.Run:
    """A new run at the end of the queue; nothing is left of it if that fails."""
    run = runs.create(recipe, home)
    try:
        prepare(run)
        queue.add(home, run.id)
    except BaseException:
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    supervise(home)
    return run


def supervise(home: Path) -> None:
    """Starts the home's supervisor unless it lives already."""
    lock = filelock.FileLock(Path(home) / LOCK)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        return
    lock.release()
    child = processes.spawn(
        "engine.jobs.supervisor", home, log=Path(home) / "supervisor.log", **processes.environment()
    )
    _children.append(child)


_children = []  # so that an ended child is reaped, and is no zombie


def train(recipe, home: Path | None = None) -> runs.Run:
    """Trains and waits for the end: for scripts and notebooks. Raises RunError if it did not finish."""
    run = wait(start(recipe, homes.home(home)))
    if run.status not in ("finished", "stopped"):
        raise RunError(f"run {run.id} {run.status}: {run.error}")
    return run


def wait(run: runs.Run, seconds: float | None = None) -> runs.Run:
    """Waits until the run is no longer active, at most so many seconds."""
    until = None if seconds is None else time.monotonic() + seconds
    looked = 0.0
    while run.status in runs.ACTIVE and (until is None or time.monotonic() < until):
        if time.monotonic() - looked > 1:
            active(run.path.parent.parent)  # looks after the supervisor
            looked = time.monotonic()
        time.sleep(0.2)
    return run


def active(home: Path) -> list[runs.Run]:
    """Runs that are starting or running, newest first, then those that wait, the next one first."""
    _children[:] = [child for child in _children if child.poll() is None]
    found = [run for run in runs.list_runs(home) if run.status in runs.ACTIVE]
    order = {run: place for place, run in enumerate(queue.waiting(home))}
    lost = any(run.status == "queued" and run.id not in order for run in found)
    if queue.busy(home) or lost:
        supervise(home)  # it may have been killed, as may whoever was about to queue a run
    return sorted(found, key=lambda run: order.get(run.id, -1))


# -- the queue --------------------------------------------------------------------------------


def waiting(home: Path) -> list[dict]:
    """The queue, the next run to start first.

    Returns:
        Dicts: run; place, 1 for the next; starts_in, seconds until its expected start, or None if
        a run before it says nothing of its end yet.
    """
    from engine.host import device, settings

    names, each = device.devices(), settings.get(home)["runs_per_device"]
    slots = queue.slots(home)
    # When each place becomes free, in seconds from now; None: it cannot be told.
    free = [runs.Run(Path(home) / "runs" / slot["run"]).eta for slot in slots]
    free += [0.0] * (len(names) * each - len(free))
    found = []
    for place, identity in enumerate(queue.waiting(home), 1):
        run = runs.Run(Path(home) / "runs" / identity)
        known = [seconds for seconds in free if seconds is not None]
        # A place of unknown end may be the first to become free, but cannot be counted on.
        begins = min(known, default=None)
        found.append({"run": run, "place": place, "starts_in": begins})
        if begins is not None:
            takes = expected_seconds(run, home)
            free[free.index(begins)] = None if takes is None else begins + takes
    return found


def expected_seconds(run: runs.Run, home: Path) -> float | None:
    """What a run that has not begun will take: by its preflight, else by the last finished run of the
    same recipe; None if there is neither."""
    predicted = homes.read_json(run.path / "preflight.json")
    if predicted:
        return predicted["seconds"]
    for other in runs.list_runs(home):
        state = other.state
        if state["status"] == "finished" and state.get("recipe_hash") == run.recipe.hash:
            return other.seconds
    return None


def move(run: runs.Run, place: int) -> None:
    """Moves a waiting run to a place, 1 for the next to start. Raises RunError if it does not wait."""
    home = run.path.parent.parent
    if run.id not in queue.waiting(home):
        raise RunError(f"run {run.id} no longer waits (it is {run.status}), so it cannot be moved")
    queue.move(home, run.id, place - 1)


# -- what a user may ask of a run -------------------------------------------------------------


def stop(run: runs.Run) -> None:
    """Takes a waiting run out of the queue (paused, if it has a checkpoint); asks one that trains to finish with the best so far, which
    it does within seconds. Raises RunError."""
    if run.status == "queued" and queue.remove(run.path.parent.parent, run.id):
        if checkpoint.Checkpoints(run.path).listed():
            # What it has learnt is not thrown away: whoever wants its model resumes it, then stops.
            run.update(status="paused", error=None)
            return
        text = "Cancelled while it waited, so there is no model."
        ending.end(run, "stopped", text)
        return
    _ask(run, "stop")


def pause(run: runs.Run) -> None:
    """Asks a run to leave its device within seconds; `resume` takes it up exactly there. A waiting run
    leaves the queue. Raises RunError."""
    if run.status == "queued" and queue.remove(run.path.parent.parent, run.id):
        run.update(status="paused", error=None)
        return
    _ask(run, "pause")


def _ask(run, what):
    if run.status not in runs.ACTIVE:
        raise RunError(
            f"run {run.id} is not running (it is {run.status}), so there is nothing to {what}"
        )
    (run.path / what).touch()
    supervise(run.path.parent.parent)


def resume(run: runs.Run) -> runs.Run:
    """Puts a paused, interrupted or failed run into the queue again, to go on from its last checkpoint.

    Raises:
        RunError: if it is none of these.
        GraftError: if the disk is nearly full.
    """
    from engine.host import limits

    home = run.path.parent.parent
    if run.status in ("starting", "running") and not processes.alive(run.state):
        supervise(home)  # after a reboot it has yet to say how the run ended
        wait(run, 10)
    state = run.state
    if state["status"] not in runs.RESUMABLE:
        raise RunError(
            f"run {run.id} is {state['status']}; only a paused, interrupted or failed run is resumed"
        )
    limits.check_disk(home)
    slot = queue.holder(home, run.id)
    if slot and not processes.alive(slot):
        queue.release(home, run.id, slot["pid"])
    for name in ("stop", "pause", "kill"):
        (run.path / name).unlink(missing_ok=True)
    last = run.ended or time.time()
    spent = (state.get("spent") or 0) + max(0, last - (state.get("started") or last))
    run.update(
        status="queued",
        error=None,
        ended=None,
        started=None,
        spent=spent,
        attempts=0,
        stop_asked=None,
    )
    queue.add(home, run.id)
    supervise(home)
    return run


def restart_smaller(run: runs.Run, batch_size: int) -> runs.Run:
    """Goes on from a run's last checkpoint in smaller batches, as a new run that names its parent.

    Args:
        run: one that failed, for example for want of memory.
        batch_size: images a batch.

    Raises:
        RunError: if it has not ended so, or goes on as another run already.
        RecipeError: if the batch size is out of bounds.
    """
    from engine.host import limits

    home, state = run.path.parent.parent, run.state
    if state["status"] not in runs.RESUMABLE:
        raise RunError(f"run {run.id} is {state['status']}, so it cannot go on in smaller batches")
    if state.get("went_on_as"):
        raise RunError(f"run {run.id} goes on as run {state['went_on_as']} already")
    limits.check_disk(home)
    recipe = type(run.recipe).from_dict(run.recipe.to_dict() | {"batch_size": batch_size})

    def prepare(new):
        checkpoint.copy(run.path, new.path)
        new.update(parent=run.id, fingerprint=state.get("fingerprint"))

    new = _queued(recipe, home, prepare)
    run.update(went_on_as=new.id)
    return new


def continued(run: runs.Run, stages) -> "object":
    """The recipe of a run that goes on from a finished one.

    Args:
        run: with a model.
        stages: plain data of the stages to add, such as `[{"name": "more", "epochs": 3, …}]`.

    Returns:
        A Recipe, to be given to `start`; everything but the stages is the run's own.
    """
    if not run.finished:
        raise RunError(f"run {run.id} is {run.status}, so there is no model to go on from")
    changes = {"stages": list(stages), "continue_from": run.id}
    return type(run.recipe).from_dict(run.recipe.to_dict() | changes)


def kill(run: runs.Run) -> None:
    """Ends a run at once; it can be resumed from its last checkpoint. Raises RunError."""
    state = run.state
    if state["status"] not in runs.ACTIVE:
        raise RunError(f"run {run.id} is not running (it is {state['status']})")
    home = run.path.parent.parent
    (run.path / "kill").touch()  # so that the supervisor, which sees its end first, knows why
    queue.remove(home, run.id)
    holder = queue.holder(home, run.id) or state
    processes.end(holder)
    with ending.alone(run):
        if run.status in (*runs.ACTIVE, "interrupted"):  # else the supervisor was quicker
            ending.end(run, "failed", runs.KILLED, error=runs.KILLED)
    queue.release(home, run.id, holder.get("pid"))


def release_dead(home: Path) -> list[str]:
    """Frees the places of workers that have ended; returns their runs' ids."""
    gone = [slot for slot in queue.slots(home) if not processes.alive(slot)]
    return [slot["run"] for slot in gone if queue.release(home, slot["run"], slot["pid"])]


def interrupt_to_stop(run: runs.Run):
    """Makes Ctrl-C in this process ask the run to stop; a second one raises KeyboardInterrupt."""

    def handler(number, frame):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if run.status in runs.ACTIVE:
            stop(run)

    return signal.signal(signal.SIGINT, handler)
