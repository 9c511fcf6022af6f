"""The gate through which people act: each action says who asks, calls the engine, and is logged.

The log, GRAFT_HOME/audit.jsonl, has a JSON object on each line: `t` (unix seconds), `who`,
`action`, what it was done to (`run`, `dataset`, …) and, if the engine refused it, `refused` with
the reason. When it grows beyond `MOST`, it replaces audit.1.jsonl and starts again. Light.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from engine import home as homes
from engine.errors import GraftError
from engine.host import settings
from engine.jobs import jobs
from engine.runs import runs, trash

if TYPE_CHECKING:
    from engine.data.curation import Decision
    from engine.imports.imports import Imported
    from engine.recipe import DatasetSpec, Recipe

LOCAL = "local"
"""Who asks while Graft has no accounts: a person on this host."""
MOST = 4_000_000
"""Bytes of the log before it starts again; the log before it is kept."""


@contextlib.contextmanager
def _logged(home: Path, who: str, action: str, **what: Any) -> Iterator[dict[str, Any]]:
    """Logs an action when the `with` ends; fields that are only known then go into the dict."""
    line = {"t": round(time.time(), 3), "who": who, "action": action} | what
    try:
        yield line
    except GraftError as error:
        _append(home, line | {"refused": str(error)})
        raise
    _append(home, line)


def _append(home: Path, line: dict[str, Any]) -> None:
    path = Path(home) / homes.AUDIT
    try:
        with filelock.FileLock(f"{path}.lock"):
            if path.exists() and path.stat().st_size > MOST:
                os.replace(path, path.with_suffix(".1.jsonl"))
            with open(path, "ab") as file:
                file.write(json.dumps(line).encode() + b"\n")
    except OSError as error:  # a full disk must not keep anyone from stopping runs or deleting them
        said = f"{line['action']} is not in the log {path}, which cannot be written"
        print(f"{said} ({error.strerror})", file=sys.stderr)


# -- runs ------------------------------------------------------------------------------------------


def start(recipe: Recipe, home: Path, who: str = LOCAL) -> runs.Run:
    """`engine.jobs.jobs.start`."""
    with _logged(home, who, "start a run", recipe=recipe.name) as line:
        run = jobs.start(recipe, home)
        line["run"] = run.id
    return run


def stop(run: runs.Run, who: str = LOCAL) -> None:
    """`engine.jobs.jobs.stop`."""
    with _logged(run.home, who, "stop a run", run=run.id):
        jobs.stop(run)


def pause(run: runs.Run, who: str = LOCAL) -> None:
    """`engine.jobs.jobs.pause`."""
    with _logged(run.home, who, "pause a run", run=run.id):
        jobs.pause(run)


def resume(run: runs.Run, who: str = LOCAL) -> runs.Run:
    """`engine.jobs.jobs.resume`."""
    with _logged(run.home, who, "resume a run", run=run.id):
        return jobs.resume(run)


def restart_smaller(run: runs.Run, batch_size: int, who: str = LOCAL) -> runs.Run:
    """`engine.jobs.jobs.restart_smaller`."""
    with _logged(run.home, who, "restart a run", parent=run.id, batch_size=batch_size) as line:
        new = jobs.restart_smaller(run, batch_size)
        line["run"] = new.id
    return new


def kill(run: runs.Run, who: str = LOCAL) -> None:
    """`engine.jobs.jobs.kill`."""
    with _logged(run.home, who, "kill a run", run=run.id):
        jobs.kill(run)


def move(run: runs.Run, place: int, who: str = LOCAL) -> None:
    """`engine.jobs.jobs.move`."""
    with _logged(run.home, who, "move a run", run=run.id, place=place):
        jobs.move(run, place)


def delete(run: runs.Run, who: str = LOCAL) -> None:
    """`engine.runs.trash.delete`."""
    with _logged(run.home, who, "delete a run", run=run.id):
        trash.delete(run)


def restore(home: Path, identity: str, who: str = LOCAL) -> runs.Run:
    """`engine.runs.trash.restore`."""
    with _logged(home, who, "restore a run", run=identity):
        return trash.restore(home, identity)


def empty_trash(home: Path, identity: str | None = None, who: str = LOCAL) -> tuple[int, int]:
    """`engine.runs.trash.empty`."""
    with _logged(home, who, "empty the trash", run=identity) as line:
        count, freed = trash.empty(home, identity)
        line |= {"runs": count, "bytes": freed}
    return count, freed


def import_run(
    path: str | Path, home: Path, name: str | None = None, *, who: str = LOCAL, **options: Any
) -> Imported:
    """`engine.imports.imports.add`, which takes the options."""
    from engine.imports import imports

    with _logged(home, who, "import a run", path=str(path)) as line:
        made = imports.add(path, home, name, **options)
        line["run"] = made.run.id
    return made


def export(
    run: runs.Run, format: str, precision: str = "float32", again: bool = False, who: str = LOCAL
) -> None:
    """`engine.exports.background.begin`."""
    from engine.exports import background

    with _logged(run.home, who, "export a run", run=run.id, format=format, precision=precision):
        background.begin(run, format, run.home, precision, again)


# -- datasets --------------------------------------------------------------------------------------


def prepare(spec: DatasetSpec, home: Path, who: str = LOCAL) -> None:
    """`engine.data.datasets.prepare`."""
    from engine.data import datasets

    with _logged(home, who, "prepare a dataset", dataset=spec.model_dump()):
        datasets.prepare(spec, home)


def forget(spec: DatasetSpec, home: Path, who: str = LOCAL) -> None:
    """`engine.data.datasets.forget`."""
    from engine.data import datasets

    with _logged(home, who, "delete a prepared dataset", dataset=spec.model_dump()):
        datasets.forget(spec, home)


def decide(
    home: Path, spec: DatasetSpec, text: str, made: Sequence[Decision], who: str = LOCAL
) -> str:
    """`engine.data.curation.decide`."""
    from engine.data import curation

    with _logged(home, who, "decide about images", dataset=spec.model_dump(), text=text) as line:
        line["overlay"] = found = curation.decide(home, spec, text, made)
    return found


def undo(
    home: Path, spec: DatasetSpec, number: int | None = None, again: bool = False, who: str = LOCAL
) -> str:
    """`engine.data.curation.undo`."""
    from engine.data import curation

    action = "redo a decision" if again else "undo a decision"
    with _logged(home, who, action, dataset=spec.model_dump(), step=number) as line:
        line["overlay"] = found = curation.undo(home, spec, number, again)
    return found


# -- the host --------------------------------------------------------------------------------------


def change_settings(home: Path, who: str = LOCAL, **changes: Any) -> dict[str, Any]:
    """`engine.host.settings.change`."""
    with _logged(home, who, "change settings", changes=changes):
        return settings.change(home, **changes)
