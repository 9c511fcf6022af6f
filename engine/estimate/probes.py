"""Measurements on this host before a run: what it will need, and which learning rate suits it.

Light. A result is kept under `GRAFT_HOME/probes` by everything that decides it, so that asking
again is instant.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from engine import home as homes
from engine.data import datasets
from engine.errors import GraftError
from engine.host import device
from engine.host.background import Job, JobState
from engine.recipe import Recipe
from engine.runs import runs

KINDS = ("preflight", "rates")
"""preflight: minutes, memory and speed of each stage; rates: the learning-rate range test."""


def key(kind: str, recipe: Recipe, home: Path, stage: int = 0) -> str:
    """The name under which a result is kept: one for each recipe, stage, state of the dataset, host
    and device."""
    about = device.describe()
    manifest = Path(home) / homes.DATASETS / datasets.key(recipe.dataset) / "manifest.json"
    fingerprint = homes.read_json(manifest, {}).get("fingerprint")
    decisive = {k: v for k, v in recipe.to_dict().items() if k not in ("name", "description")}
    identity = [kind, stage, decisive, fingerprint, about["text"], about["host"]]
    return f"{kind}-{sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]}"


def start(kind: str, recipe: Recipe, home: Path, stage: int = 0) -> None:
    """Starts a measurement in the background; does nothing while the same one is running.

    Raises:
        DatasetError: if the dataset is not prepared: a result is kept by its content.
        GraftError: while a run is in progress: the measurement would slow it down, and would
            measure a host that is half in use.
    """
    job = _job(kind, recipe, home, stage)
    if job.state()["state"] == "running":
        return
    homes.writable(home)
    datasets.open_dataset(recipe.dataset, home)
    active = next((run for run in runs.list_runs(home) if run.status in runs.ACTIVE), None)
    if active:
        raise GraftError(
            f"run {active.id} is in progress; a measurement now would slow it down and be wrong; "
            "wait until it ends, or stop it"
        )
    job.start(home, recipe=recipe.to_dict(), stage=stage)


def state(kind: str, recipe: Recipe, home: Path, stage: int = 0) -> JobState:
    """How far a measurement is."""
    return _job(kind, recipe, home, stage).state()


def cancel(kind: str, recipe: Recipe, home: Path, stage: int = 0) -> None:
    """Ends a measurement, and forgets its result."""
    _job(kind, recipe, home, stage).cancel()


def wait(
    kind: str,
    recipe: Recipe,
    home: Path,
    stage: int = 0,
    progress: Callable[[JobState], object] | None = None,
) -> dict[str, Any]:
    """Waits for the end of a measurement and returns its result.

    Args:
        kind, recipe, home, stage: as for `start`.
        progress: called with the state several times a second.

    Raises:
        GraftError: if it failed or was cancelled.
    """
    return _job(kind, recipe, home, stage).wait(progress)


def _job(kind: str, recipe: Recipe, home: Path, stage: int) -> Job:
    return Job(Path(home) / homes.PROBES / f"{key(kind, recipe, home, stage)}.json", kind)
