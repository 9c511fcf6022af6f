"""What people do with runs, the queue and the trash, and measurements of recipes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.accounts import roles
from engine.actions.log import LOCAL, logged
from engine.jobs import jobs
from engine.runs import runs, trash
from engine.runs.trash import Deleted

if TYPE_CHECKING:
    from engine.recipe import Recipe


def start(recipe: Recipe, home: Path, who: str = LOCAL) -> runs.Run:
    """`engine.jobs.jobs.start`."""
    with logged(home, who, "start a run", recipe=recipe.name) as line:
        run = jobs.start(recipe, home, who)
        line["run"] = run.id
    return run


def stop(run: runs.Run, who: str = LOCAL) -> None:
    """`engine.jobs.jobs.stop`."""
    with logged(run.home, who, "stop a run", run.owner, run=run.id):
        jobs.stop(run)


def pause(run: runs.Run, who: str = LOCAL) -> None:
    """`engine.jobs.jobs.pause`."""
    with logged(run.home, who, "pause a run", run.owner, run=run.id):
        jobs.pause(run)


def resume(run: runs.Run, who: str = LOCAL) -> runs.Run:
    """`engine.jobs.jobs.resume`; the run keeps its owner."""
    with logged(run.home, who, "resume a run", run.owner, run=run.id):
        return jobs.resume(run)


def restart_smaller(run: runs.Run, batch_size: int, who: str = LOCAL) -> runs.Run:
    """`engine.jobs.jobs.restart_smaller`; the new run belongs to who asks."""
    what = {"parent": run.id, "batch_size": batch_size}
    with logged(run.home, who, "restart a run", run.owner, **what) as line:
        new = jobs.restart_smaller(run, batch_size, who)
        line["run"] = new.id
    return new


def extend(run: runs.Run, stages: Iterable[dict[str, Any]], who: str = LOCAL) -> runs.Run:
    """Continues a finished run, anybody's, as a new run of who asks (`jobs.continued`)."""
    with logged(run.home, who, "continue a run", parent=run.id) as line:
        new = jobs.start(jobs.continued(run, stages), run.home, who)
        line["run"] = new.id
    return new


def kill(run: runs.Run, who: str = LOCAL) -> None:
    """`engine.jobs.jobs.kill`."""
    with logged(run.home, who, "kill a run", run.owner, run=run.id):
        jobs.kill(run)


def move(run: runs.Run, place: int, who: str = LOCAL) -> None:
    """`engine.jobs.jobs.move`."""
    with logged(run.home, who, "move a run", run=run.id, place=place):
        jobs.move(run, place)


def delete(run: runs.Run, who: str = LOCAL) -> None:
    """`engine.runs.trash.delete`."""
    with logged(run.home, who, "delete a run", run.owner, run=run.id):
        trash.delete(run)


def trashed(home: Path, who: str = LOCAL) -> list[Deleted]:
    """`engine.runs.trash.listed`: own runs; all for an admin."""
    return [each for each in trash.listed(home) if roles.sees(home, who, each.owner)]


def restore(home: Path, identity: str, who: str = LOCAL) -> runs.Run:
    """`engine.runs.trash.restore`."""
    folder = trash.find(home, identity)
    owner = runs.Run(folder).owner if folder else None
    with logged(home, who, "restore a run", owner, run=identity):
        return trash.restore(home, identity)


def empty_trash(home: Path, identity: str | None = None, who: str = LOCAL) -> tuple[int, int]:
    """`engine.runs.trash.empty`."""
    with logged(home, who, "empty the trash", run=identity) as line:
        count, freed = trash.empty(home, identity)
        line |= {"runs": count, "bytes": freed}
    return count, freed


def measure(kind: str, recipe: Recipe, home: Path, stage: int = 0, who: str = LOCAL) -> None:
    """`engine.estimate.probes.start`."""
    from engine.estimate import probes

    with logged(home, who, "measure a recipe", kind=kind, recipe=recipe.name):
        probes.start(kind, recipe, home, stage)


def cancel_measurement(
    kind: str, recipe: Recipe, home: Path, stage: int = 0, who: str = LOCAL
) -> None:
    """`engine.estimate.probes.cancel`."""
    from engine.estimate import probes

    with logged(home, who, "cancel a measurement", kind=kind, recipe=recipe.name):
        probes.cancel(kind, recipe, home, stage)
