"""Work beside runs: a process of its own does it, with progress, and its answer is kept in a file.

Light. The process (`engine.probe`) needs TensorFlow, so a page never waits for it. `begin`, `state_at` and
`cancel_at` are for work of any kind, such as batches and exports, by the file of its request. Short
questions put to this host before a run (`KINDS`) have `start`, `state` and `cancel`: what they found is kept
under `GRAFT_HOME/probes` by everything that decides it, so that asking again is instant.
"""

import json
import time
from hashlib import sha256
from pathlib import Path

from engine import datasets, device, jobs, processes
from engine import home as homes
from engine.errors import GraftError

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
    active = jobs.active(home)
    if active:
        raise GraftError(
            f"run {active[0].id} is in progress, and a measurement now would disturb it and be wrong; "
            "wait for its end or stop it"
        )
    begin(_path(kind, recipe, home, stage), kind, recipe, home, stage)


def begin(path: Path, kind: str, recipe, home, stage=0, **environment) -> None:
    """Starts the process that answers, whatever else is under way.

    Args:
        path: of the request, which takes the answer; see `state_at`.
        kind: see `engine.probe`.
        stage: for some kinds more than a number: plain data.
        environment: variables to change.
    """
    path.parent.mkdir(exist_ok=True)
    request = {"kind": kind, "stage": stage, "recipe": recipe.to_dict(), "text": "Starting"}
    homes.write_json(path, request | {"started": time.time()})
    child = processes.spawn(
        "engine.probe",
        path,
        home,
        log=path.with_suffix(".log"),
        **jobs.environment() | environment,
    )
    # The child waits for this before it writes.
    homes.write_json(path, request | {"started": time.time()} | processes.identity(child.pid))
    _children.append(child)


_children = []  # so that an ended child is reaped, and is no zombie


def state(kind: str, recipe, home, stage: int = 0) -> dict:
    """How far a probe is.

    Returns:
        A dict: state "missing", "running", "done" or "failed"; text; done and total (None while
        unknown); eta_seconds (or None); error, one sentence or None; result, plain data or None.
    """
    return state_at(_path(kind, recipe, home, stage))


def state_at(path: Path) -> dict:
    """`state` of the request in a file."""
    _children[:] = [child for child in _children if child.poll() is None]
    found = homes.read_json(path, {})
    answer = {"state": "missing", "text": "", "done": 0, "total": None, "eta_seconds": None}
    answer |= {"error": None, "result": None}
    answer |= {k: found[k] for k in answer if k in found}
    if found.get("result"):
        answer["state"] = "done"
    elif found.get("error"):
        answer["state"] = "failed"
    elif processes.alive(found) or (found and "pid" not in found):
        answer["state"] = "running"
    elif found:
        answer |= {"state": "failed", "error": "the measurement broke off; start it again"}
    return answer


def cancel(kind: str, recipe, home, stage: int = 0) -> None:
    """Ends a probe that is under way; forgets what it found."""
    cancel_at(_path(kind, recipe, home, stage))


def cancel_at(path: Path) -> None:
    """`cancel` of the request in a file."""
    processes.end(homes.read_json(path, {}))
    path.unlink(missing_ok=True)


def wait(kind: str, recipe, home, stage: int = 0, progress=None) -> dict:
    """Waits for the end of a probe and returns its result.

    Args:
        progress: called with `state`'s dict now and then.

    Raises:
        GraftError: with the probe's sentence if it failed.
    """
    now = wait_for(lambda: state(kind, recipe, home, stage), progress)
    if now["state"] != "done":
        raise GraftError(now["error"] or "the measurement was cancelled")
    return now["result"]


def wait_for(ask, progress=None) -> dict:
    """Waits until `ask()`, which gives what `state` does, is no longer running; returns what it gives then."""
    while (now := ask())["state"] == "running":
        if progress:
            progress(now)
        time.sleep(0.2)
    return now


def _path(kind, recipe, home, stage) -> Path:
    return Path(home) / "probes" / f"{key(kind, recipe, home, stage)}.json"
