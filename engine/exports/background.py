"""Exports in the background: a process of its own makes them, with progress, and can be stopped.

Light. `begin` starts an export (`engine.exports.worker.export`), `state` tells how far it is, `cancel` ends it.
"""

import shutil
from pathlib import Path

import filelock

from engine import home as homes
from engine.errors import GraftError
from engine.exports import exports
from engine.host import background


def begin(run, format: str, home, precision: str = "float32", again: bool = False) -> None:
    """Starts an export; does nothing while it is under way, or if it is kept.

    Args:
        run: a finished Run.
        format: of `formats.FORMATS`.
        home: Graft's home.
        precision: of the format's precisions.
        again: make it even if it is kept.

    Raises:
        GraftError: as `exports.check`.
    """
    exports.check(run, format, precision)
    request = _request(run, format, home, precision)
    request.parent.mkdir(exist_ok=True)
    with filelock.FileLock(request.with_suffix(".lock")):  # two tabs may ask at once
        now = state(run, format, home, precision)["state"]
        if now == "running" or (now == "done" and not again):
            return
        asked = {"run": str(run.path), "format": format, "precision": precision}
        # The certificate holds for the processor, and a run may need the GPU's memory.
        background.begin(request, "export", run.recipe, home, asked, CUDA_VISIBLE_DEVICES="-1")


def state(run, format: str, home, precision: str = "float32") -> dict:
    """How far an export is.

    Returns:
        A dict: state "missing", "running", "done" or "failed"; text; done and total (None while
        unknown); eta_seconds (None); error, one sentence or None; result, that of `worker.export`, or
        None.
    """
    request = _request(run, format, home, precision)
    now = background.state(request)
    if now["state"] == "running":
        return now
    found, asked = exports.kept(run, format, precision), homes.read_json(request, {})
    if found and (
        now["state"] != "failed" or found["path"].stat().st_mtime > asked.get("started", 0)
    ):
        return now | {"state": "done", "text": "Done", "error": None, "result": found}
    if now["state"] == "done":  # its zip was deleted since
        return now | {"state": "missing", "result": None}
    if now["state"] == "failed" and not asked.get("error"):
        return now | {"error": "the export broke off; start it again"}
    return now


def cancel(run, format: str, home, precision: str = "float32") -> None:
    """Ends an export that is under way; one that is finished stays."""
    background.cancel(_request(run, format, home, precision))
    shutil.rmtree(exports.work_folder(run, format, precision), ignore_errors=True)


def wait(run, format: str, home, precision: str = "float32", progress=None) -> dict:
    """Waits for the end of an export that was begun.

    Args:
        progress: called with `state`'s dict now and then.

    Returns:
        See `worker.export`.

    Raises:
        GraftError: with one sentence if it failed.
    """
    now = background.wait_for(lambda: state(run, format, home, precision), progress)
    if now["state"] != "done":
        raise GraftError(now["error"] or "the export was cancelled")
    return now["result"]


def _request(run, format, home, precision) -> Path:
    name = exports.name_of(run, format, precision)
    return Path(home) / "probes" / f"export-{name}.json"
