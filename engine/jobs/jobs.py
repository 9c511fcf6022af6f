"""Jobs: runs in a queue, in processes that survive the end of a browser session or the server.

`start` puts a run into the queue (`engine.runs.queue`). A supervisor (`engine.jobs.supervisor`),
one small process for a home that lives while there is work, gives devices to waiting runs and looks
after their workers. Server, supervisor and workers share only the run folders and the queue: each
of them can die and start again, and finds everything as it was.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import filelock

from engine import home as homes
from engine import roots
from engine.accounts.roles import LOCAL
from engine.errors import RunError
from engine.host import processes
from engine.jobs import executors
from engine.recipe import Recipe
from engine.runs import checkpoint, ending, files, queue, remaining, runs

LOCK = homes.SUPERVISOR_LOCK


def start(recipe: Recipe, home: Path, owner: str = LOCAL) -> runs.Run:
    """Puts a new run at the end of the queue; it starts as soon as a device is free.

    Args:
        recipe: what to train.
        home: Graft's home.
        owner: of the run, and of its dataset if it is not prepared yet.

    Returns:
        The new Run, status queued.

    Raises:
        GraftError: if the disk is nearly full, `continue_from` names no finished run, or a page
            may not read its dataset or weights (`engine.roots`).
    """
    from engine.data import datasets
    from engine.estimate import preflight
    from engine.host import limits

    limits.check_disk(home)
    _check_files(recipe)
    if recipe.continue_from and not runs.get_run(home, recipe.continue_from).finished:
        raise RunError(f"run {recipe.continue_from} has no model to continue from")
    if recipe.dataset.source in ("folder", "zip"):
        # Workers start in the supervisor's folder, so a relative path would mean another place.
        path = str(Path(recipe.dataset.path).expanduser().absolute())
        recipe = Recipe.from_dict(
            recipe.to_dict() | {"dataset": recipe.dataset.model_dump() | {"path": path}}
        )

    def prepare(run: runs.Run) -> None:
        # The worker compares it, since a folder may change before the run starts.
        run.update(fingerprint=datasets.fingerprint(recipe.dataset, home))
        preflight.attach(run, home)
        datasets.claim(recipe.dataset, home, owner)

    return _queued(recipe, home, prepare, owner)


def _check_files(recipe: Recipe) -> None:
    """Raises GraftError for a dataset or weights that a page may not read."""
    if recipe.dataset.source in ("folder", "zip"):
        roots.check(recipe.dataset.path)
    if recipe.backbone.weights_file:
        roots.check(recipe.backbone.weights_file)


def _queued(
    recipe: Recipe, home: Path, prepare: Callable[[runs.Run], None], owner: str
) -> runs.Run:
    """A new run at the end of the queue; nothing is left of it if that fails."""
    run = runs.create(recipe, home, owner)
    with homes.whole(run.path):
        prepare(run)
        run.update(creator=None)
        queue.add(home, run.id)
    supervise(home)
    return run


def supervise(home: Path) -> None:
    """Starts the home's supervisor unless it is already running, or the home is read-only: what
    happens there is another process' work."""
    if homes.read_only(home):
        return
    lock = filelock.FileLock(Path(home) / LOCK)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        return
    lock.release()
    log = Path(home) / homes.SUPERVISOR_LOG
    child = processes.spawn("engine.jobs.supervisor", home, log=log, **processes.environment())
    _children.append(child)


_children: list[subprocess.Popen] = []  # polled, so that an ended child is no zombie


def train(recipe: Recipe, home: Path | None = None) -> runs.Run:
    """Trains and waits for the end, for scripts and notebooks.

    Raises RunError if the run does not finish.
    """
    run = wait(start(recipe, homes.home(home)))
    if run.status not in ("finished", "stopped"):
        raise RunError(f"run {run.id} {run.status}: {run.error}")
    return run


def wait(run: runs.Run, seconds: float | None = None) -> runs.Run:
    """Waits until the run is no longer active, at most `seconds`; forever by default."""
    until = None if seconds is None else time.monotonic() + seconds
    looked = 0.0
    while run.status in runs.ACTIVE and (until is None or time.monotonic() < until):
        if time.monotonic() - looked > 1:
            active(run.home)  # looks after the supervisor
            looked = time.monotonic()
        time.sleep(0.2)
    return run


def active(home: Path) -> list[runs.Run]:
    """Runs that are starting or running, newest first, then waiting ones, the next one first."""
    _children[:] = [child for child in _children if child.poll() is None]
    found = [run for run in runs.list_runs(home) if run.status in runs.ACTIVE]
    order = {run: place for place, run in enumerate(queue.waiting(home))}
    lost = any(run.status == "queued" and run.id not in order for run in found)
    if queue.busy(home) or lost:
        supervise(home)  # it may have been killed, or a process that was about to queue a run
    return sorted(found, key=lambda run: order.get(run.id, -1))


# -- the queue --------------------------------------------------------------------------------


def waiting(home: Path) -> list[dict]:
    """The queue, the next run to start first.

    Returns:
        Dicts: run; place, 1 for the next; starts_in, seconds until its expected start, or None if
        the end of a run before it is not known yet.
    """
    from engine.estimate import outlook
    from engine.host import device, settings

    names, each = device.devices(), settings.get(home)["runs_per_device"]
    slots = queue.slots(home)
    # When each place becomes free, in seconds from now; None: not known.
    ends = [remaining.of(runs.at(home, slot["run"])) for slot in slots]
    free = [None if end is None else end.seconds for end in ends]
    free += [0.0] * (len(names) * each - len(free))
    found = []
    for place, identity in enumerate(queue.waiting(home), 1):
        run = runs.at(home, identity)
        known = [seconds for seconds in free if seconds is not None]
        # A place with an unknown end might be free first, but nothing can be planned on it.
        begins = min(known, default=None)
        found.append({"run": run, "place": place, "starts_in": begins})
        if begins is not None:
            takes = outlook.expected_seconds(run)
            free[free.index(begins)] = None if takes is None else begins + takes
    return found


def move(run: runs.Run, place: int) -> None:
    """Moves a waiting run to a place, 1 for the next to start.

    Raises RunError if it does not wait.
    """
    if run.id not in queue.waiting(run.home):
        raise RunError(
            f"run {run.id} is no longer waiting (it is {run.status}), so it cannot be moved"
        )
    queue.move(run.home, run.id, place - 1)


# -- what a user can ask of a run -------------------------------------------------------------


def stop(run: runs.Run) -> None:
    """Asks a run to finish with its best weights so far, which it does within seconds.

    A waiting run is removed from the queue; it is then paused if it has a checkpoint.

    Raises:
        RunError: if it is not active.
    """
    if run.status == "queued" and queue.remove(run.home, run.id):
        if checkpoint.Checkpoints(run.path).listed():
            # Its training is not lost: to get its model, resume it, then stop it.
            run.update(status="paused", error=None)
            return
        text = "Cancelled before it started, so there is no model."
        ending.end(run, "stopped", text)
        return
    _ask(run, "stop")


def pause(run: runs.Run) -> None:
    """Asks a run to free its device within seconds; `resume` continues exactly there.

    A waiting run is removed from the queue.

    Raises:
        RunError: if it is not active.
    """
    if run.status == "queued" and queue.remove(run.home, run.id):
        run.update(status="paused", error=None)
        return
    _ask(run, "pause")


def _ask(run: runs.Run, what: str) -> None:
    if run.status not in runs.ACTIVE:
        raise RunError(
            f"run {run.id} is not running (it is {run.status}), so there is nothing to {what}"
        )
    (run.path / what).touch()
    supervise(run.home)


def resume(run: runs.Run) -> runs.Run:
    """Puts a paused, interrupted or failed run into the queue again, from its last checkpoint.

    Raises:
        RunError: if it has another status.
        GraftError: if the disk is nearly full, or a page may not read its dataset or weights.
    """
    from engine.host import limits

    _check_files(run.recipe)
    home, state = run.home, run.state
    worker = executors.recorded(state)
    if state["status"] in ("starting", "running") and not executors.alive(worker):
        supervise(home)  # after a reboot it has yet to write how the run ended
        wait(run, 10)
    state = run.state
    if state["status"] not in runs.RESUMABLE:
        raise RunError(
            f"run {run.id} is {state['status']}; only a paused, interrupted or failed run can be "
            "resumed"
        )
    limits.check_disk(home)
    holder = queue.holder(home, run.id)
    if holder and not executors.alive(holder):
        queue.release(home, run.id, holder)
    for name in (files.STOP, files.PAUSE, files.KILL):
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
        reads=roots.recorded() or state.get("reads"),
    )
    queue.add(home, run.id)
    supervise(home)
    return run


def restart_smaller(run: runs.Run, batch_size: int, owner: str = LOCAL) -> runs.Run:
    """Continues from a run's last checkpoint in smaller batches, as a new run.

    Args:
        run: one that failed, for example because memory ran out.
        batch_size: images a batch.
        owner: of the new run.

    Raises:
        RunError: if it has another status, or another run already continues it.
        RecipeError: if the batch size is out of bounds.
    """
    from engine.host import limits

    home, state = run.home, run.state
    if state["status"] not in runs.RESUMABLE:
        raise RunError(
            f"run {run.id} is {state['status']}, so it cannot continue in smaller batches"
        )
    if state.get("went_on_as"):
        raise RunError(f"run {run.id} already continues as run {state['went_on_as']}")
    limits.check_disk(home)
    _check_files(run.recipe)
    recipe = Recipe.from_dict(run.recipe.to_dict() | {"batch_size": batch_size})

    def prepare(new: runs.Run) -> None:
        checkpoint.copy(run.path, new.path)
        new.update(parent=run.id, fingerprint=state.get("fingerprint"))

    new = _queued(recipe, home, prepare, owner)
    run.update(went_on_as=new.id)
    return new


def continued(run: runs.Run, stages: Iterable[dict[str, Any]]) -> Recipe:
    """The recipe of a run that continues a finished one, for `start`.

    Args:
        run: has a model.
        stages: plain data of the stages to add, such as `[{"name": "more", "epochs": 3, …}]`.

    Returns:
        The run's recipe with these stages only.

    Raises:
        RunError: if the run has no model.
    """
    if not run.finished:
        raise RunError(f"run {run.id} is {run.status}, so there is no model to continue from")
    changes = {"stages": list(stages), "continue_from": run.id}
    return Recipe.from_dict(run.recipe.to_dict() | changes)


def kill(run: runs.Run) -> None:
    """Ends a run at once; it can be resumed from its last checkpoint.

    Raises RunError if it is not active.
    """
    state = run.state
    if state["status"] not in runs.ACTIVE:
        raise RunError(f"run {run.id} is not running (it is {state['status']})")
    home = run.home
    (run.path / files.KILL).touch()  # tells the supervisor why, if it sees the end first
    queue.remove(home, run.id)
    holder = queue.holder(home, run.id) or executors.recorded(state)
    executors.end(holder)
    with ending.alone(run):
        if run.status in (*runs.ACTIVE, "interrupted"):  # else the supervisor was quicker
            ending.end(run, "failed", runs.KILLED, error=runs.KILLED)
    queue.release(home, run.id, holder)


def interrupt_to_stop(run: runs.Run, act: Callable[[runs.Run], None] = stop) -> Any:
    """Makes Ctrl-C in this process ask the run to stop; a second one raises KeyboardInterrupt.

    Args:
        run: an active run.
        act: stops it.

    Returns:
        The signal handler before.
    """

    def handler(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if run.status in runs.ACTIVE:
            act(run)

    return signal.signal(signal.SIGINT, handler)
