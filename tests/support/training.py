"""Runs trained for a test, and what their events say."""

import shutil

import filelock

from engine import home as homes
from engine.jobs import jobs
from engine.recipe import load_preset
from engine.runs import runs


def train(home, *sets, preset="sample", expect="finished"):
    return trained(load_preset(preset, list(sets)), home, expect)


def trained(recipe, home, expect="finished"):
    run = jobs.wait(jobs.start(recipe, home))
    assert run.status == expect, f"{run.status}: {run.error}\n{run.log_tail()}"
    # The process of a finished run still removes its checkpoints; wait until the folder is at rest.
    with filelock.FileLock(run.path / "worker.lock"):
        return run


def trained_once(recipe, home, factory, worker):
    """A finished run, trained once for all pytest processes; each gets a copy in its own home.

    Args:
        recipe: of the run; its name is the run's among those of the session.
        home: takes the copy, with the datasets and cached features.
        factory, worker: the fixtures `tmp_path_factory` and `worker_id`.
    """
    if worker == "master":
        return trained(recipe, home)
    place = factory.getbasetemp().parent / f"trained-{recipe.name}"
    with filelock.FileLock(f"{place}.lock"):
        if not (place / "id").exists():
            run = trained(recipe, homes.home(place))
            (place / "id").write_text(run.id)
    for part in ("datasets", "cache", f"runs/{(place / 'id').read_text()}"):
        shutil.copytree(place / part, home / part, dirs_exist_ok=True)
    return runs.get_run(home, (place / "id").read_text())


def events(run, kind):
    return [e for e in run.events()[0] if e["event"] == kind]
