"""Questions put to this host before a run: what it will take, and which learning rate suits it.

Light. An answer is kept under `GRAFT_HOME/probes` by everything that decides it, so that asking again
is instant.
"""

import json
from hashlib import sha256
from pathlib import Path

from engine import home as homes
from engine.data import datasets
from engine.errors import GraftError
from engine.host import background, device
from engine.runs import runs

KINDS = ("preflight", "rates")
"""preflight: minutes, memory and speed of each stage; rates: the learning-rate range test."""


def key(kind: str, recipe, home, stage: int = 0) -> str:
    """The name under which an answer is kept: it holds for one recipe, stage, state of the dataset,
    host and device."""
    about = device.describe()
    manifest = Path(home) / "datasets" / datasets.key(recipe.dataset) / "manifest.json"
    fingerprint = homes.read_json(manifest, {}).get("fingerprint")
    decisive = {k: v for k, v in recipe.to_dict().items() if k not in ("name", "description")}
    identity = [kind, stage, decisive, fingerprint, about["text"], about["host"]]
    return f"{kind}-{sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]}"


def start(kind: str, recipe, home, stage: int = 0) -> None:
    """Begins a probe in the background; does nothing while the same one is under way.

    Raises:
        DatasetError: if the dataset is not prepared: an answer is kept by its content.
        GraftError: while a run is in progress, since the probe would slow it down and measure a
            machine that is half taken.
    """
    if state(kind, recipe, home, stage)["state"] == "running":
        return
    datasets.open_dataset(recipe.dataset, home)
    active = next((run for run in runs.list_runs(home) if run.status in runs.ACTIVE), None)
    if active:
        raise GraftError(
            f"run {active.id} is in progress, and a measurement now would disturb it and be wrong; "
            "wait for its end or stop it"
        )
    background.begin(_path(kind, recipe, home, stage), kind, recipe, home, stage)


def state(kind: str, recipe, home, stage: int = 0) -> dict:
    """How far a probe is; see `engine.host.background.state`."""
    return background.state(_path(kind, recipe, home, stage))


def cancel(kind: str, recipe, home, stage: int = 0) -> None:
    """Ends a probe that is under way; forgets what it found."""
    background.cancel(_path(kind, recipe, home, stage))


def wait(kind: str, recipe, home, stage: int = 0, progress=None) -> dict:
    """Waits for the end of a probe and returns its result.

    Args:
        progress: called with `state`'s dict now and then.

    Raises:
        GraftError: with the probe's sentence if it failed.
    """
    now = background.wait_for(lambda: state(kind, recipe, home, stage), progress)
    if now["state"] != "done":
        raise GraftError(now["error"] or "the measurement was cancelled")
    return now["result"]


def _path(kind, recipe, home, stage) -> Path:
    return Path(home) / "probes" / f"{key(kind, recipe, home, stage)}.json"
