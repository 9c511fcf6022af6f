"""Exports in the background (`engine.host.background`). Light.

`begin` starts an export (`engine.exports.worker.export`), `state` says how far it is, and `cancel`
ends it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import home as homes
from engine.exports import exports
from engine.host import background
from engine.host.background import Job, JobState
from engine.runs.runs import Run


def begin(
    run: Run, format: str, home: Path, precision: str = "float32", again: bool = False
) -> None:
    """Starts an export; does nothing while it is running, or if it exists.

    Args:
        run: a finished Run.
        format: of `formats.FORMATS`.
        home: Graft's home.
        precision: of the format's precisions.
        again: export again even if the export exists.

    Raises:
        GraftError: as `exports.check`.
    """
    exports.check(run, format, precision)
    if again or state(run, format, home, precision)["state"] != "done":
        # The certificate is for the CPU, and a run may need the GPU's memory.
        _job(run, format, home, precision).start(
            home,
            {"CUDA_VISIBLE_DEVICES": "-1"},
            run=str(run.path),
            format=format,
            precision=precision,
        )


def state(run: Run, format: str, home: Path, precision: str = "float32") -> JobState:
    """How far an export is; its result is that of `worker.export`.

    An export that exists is done, even if it was made by `worker.export` in the foreground.
    """
    job = _job(run, format, home, precision)
    now, found = job.state(), exports.kept(run, format, precision)
    if now["state"] == "running":
        return now
    started = job.request().get("started", 0)
    if found and (now["state"] != "failed" or found["path"].stat().st_mtime > started):
        return {**now, "state": "done", "error": None, "result": found}
    if now["state"] == "done":  # its zip was deleted since
        return {**now, "state": "missing", "result": None}
    return now


def cancel(run: Run, format: str, home: Path, precision: str = "float32") -> None:
    """Ends an export that is running; an export that exists stays."""
    _job(run, format, home, precision).cancel()
    shutil.rmtree(exports.work_folder(run, format, precision), ignore_errors=True)


def wait(
    run: Run,
    format: str,
    home: Path,
    precision: str = "float32",
    progress: Callable[[JobState], object] | None = None,
) -> dict[str, Any]:
    """Waits for the end of an export.

    Args:
        run, format, home, precision: as for `begin`.
        progress: called with `state`'s result several times a second.

    Returns:
        See `worker.export`.

    Raises:
        GraftError: if it failed or was cancelled.
    """
    now = background.wait_for(lambda: state(run, format, home, precision), progress)
    return background.result_of(now)


def _job(run: Run, format: str, home: Path, precision: str) -> Job:
    name = exports.name_of(run, format, precision)
    return Job(Path(home) / homes.PROBES / f"export-{name}.json", "export")
