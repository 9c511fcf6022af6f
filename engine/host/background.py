"""Work beside runs: a process of its own does it, with progress, and its answer is kept in a file.

Light. The process (`engine.host.background_worker`) may need TensorFlow, so a page never waits for it. Measurements,
batches, exports and the payback of decisions are done this way.
"""

import time
from pathlib import Path

from engine import home as homes
from engine.host import processes


def begin(path: Path, kind: str, recipe, home, stage=0, **environment) -> None:
    """Starts the process that answers, whatever else is under way.

    Args:
        path: of the request, which takes the answer; see `state`.
        kind: see `engine.host.background_worker`.
        stage: for some kinds more than a number: plain data.
        environment: variables to change.
    """
    path.parent.mkdir(exist_ok=True)
    request = {"kind": kind, "stage": stage, "recipe": recipe.to_dict(), "text": "Starting"}
    homes.write_json(path, request | {"started": time.time()})
    child = processes.spawn(
        "engine.host.background_worker",
        path,
        home,
        log=path.with_suffix(".log"),
        **processes.environment() | environment,
    )
    # The child waits for this before it writes.
    homes.write_json(path, request | {"started": time.time()} | processes.identity(child.pid))
    _children.append(child)


_children = []  # so that an ended child is reaped, and is no zombie


def state(path: Path) -> dict:
    """How far the work of a request is.

    Args:
        path: of the request.

    Returns:
        A dict: state "missing", "running", "done" or "failed"; text; done and total (None while
        unknown); eta_seconds (or None); error, one sentence or None; result, plain data or None.
    """
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
        answer |= {"state": "failed", "error": "the process died unexpectedly; start it again"}
    return answer


def cancel(path: Path) -> None:
    """Ends the work of a request if it is under way, and forgets what it found."""
    processes.end(homes.read_json(path, {}))
    path.unlink(missing_ok=True)


def wait_for(ask, progress=None) -> dict:
    """Waits until `ask()`, which gives what `state` does, is no longer running; returns what it gives then."""
    while (now := ask())["state"] == "running":
        if progress:
            progress(now)
        time.sleep(0.2)
    return now
