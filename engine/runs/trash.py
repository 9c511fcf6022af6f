"""The trash: deleted runs, kept until it is emptied.

GRAFT_HOME/trash/20261124T225012Z.ID/    the unchanged folder of run ID; the name has the time (UTC)

Deleting and restoring are one rename each, so a run is always whole in one place or the other, and
the time is never half-written.
"""

import calendar
import errno
import os
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from engine import home as homes
from engine.errors import GraftError, RunError
from engine.runs import runs

_STAMP = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"^(\d{8}T\d{6}Z)\.(.+)$")


@dataclass(frozen=True)
class Deleted:
    """A run in the trash.

    Attributes:
        id: the run's id.
        name: the recipe's name; the id if the recipe cannot be read.
        deleted: unix seconds.
        bytes: size of its folder.
        path: its folder in the trash.
        owner: of the run.
    """

    id: str
    name: str
    deleted: float
    bytes: int
    path: Path
    owner: str


def delete(run: runs.Run) -> None:
    """Moves a run to the trash.

    Raises:
        RunError: if it is active or gone, or if the folder cannot be moved.
    """
    if run.status in runs.ACTIVE:
        raise RunError(f"run {run.id} is {run.status}; stop it before deleting it")
    move(run.path)


def move(path: Path) -> None:
    """Moves a folder of GRAFT_HOME/runs to the trash, even if it is not a run. Raises RunError."""
    trash, now = path.parent.parent / homes.TRASH, time.time()
    trash.mkdir(exist_ok=True)
    while (target := trash / f"{time.strftime(_STAMP, time.gmtime(now))}.{path.name}").exists():
        now += 1  # the same id twice within a second: restored and deleted again
    try:
        os.rename(path, target)
    except FileNotFoundError:
        raise RunError(f"run {path.name} is no longer there; it may already be deleted") from None
    except OSError as error:
        raise RunError(
            f"run {path.name} could not be moved to {trash} ({error.strerror}); the trash must be "
            "a folder that you can write to, on the same disk"
        ) from None


def listed(home: Path) -> list[Deleted]:
    """Everything in the trash, the latest first."""
    found = []
    for identity, deleted, path in _folders(home):
        run = runs.Run(path)
        try:
            name = run.recipe.name
        except GraftError:
            name = identity
        size = homes.folder_bytes(path)
        found.append(Deleted(identity, name, deleted, size, path, run.owner))
    return found


def find(home: Path, identity: str) -> Path | None:
    """The folder of a deleted run, the latest if there are several; None if there is none."""
    return next((path for name, _, path in _folders(home) if name == identity), None)


def restore(home: Path, identity: str) -> runs.Run:
    """Moves a deleted run back, unchanged.

    Raises:
        RunError: if it is not in the trash, or there is a run with its id.
    """
    source = find(home, identity)
    if source is None:
        raise _unknown(home, identity)
    target = runs.at(home, identity).path
    exists = RunError(
        f"there is already a run {identity}, and restoring does not overwrite it; delete it first, "
        "or rename its folder"
    )
    if target.exists():
        raise exists
    try:
        os.rename(source, target)
    except FileNotFoundError:
        raise _unknown(home, identity) from None
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):  # it appeared just now
            raise exists from None
        raise RunError(f"run {identity} could not be restored ({error.strerror})") from None
    return runs.Run(target)


def empty(home: Path, identity: str | None = None) -> tuple[int, int]:
    """Permanently deletes what is in the trash.

    Args:
        home: Graft's home.
        identity: of the one run to delete; None for all.

    Returns:
        (number of runs, bytes freed).

    Raises:
        RunError: if it is not in the trash, or a file cannot be deleted.
    """
    chosen = [e for e in _folders(home) if identity in (None, e[0])]
    if identity is not None and not chosen:
        raise _unknown(home, identity)
    count = freed = 0
    for name, _, path in chosen:
        size = homes.folder_bytes(path)
        # Renamed first, so a half-deleted run is neither listed nor restored.
        aside = path.with_name(f".deleted-{secrets.token_hex(4)}")
        try:
            os.rename(path, aside)
            shutil.rmtree(aside)
        except FileNotFoundError:  # another process restored or deleted it
            continue
        except OSError as error:
            raise RunError(
                f"run {name} could not be permanently deleted ({error.strerror}: {error.filename})"
            ) from None
        count, freed = count + 1, freed + size
    return count, freed


def _unknown(home: Path, identity: str) -> RunError:
    return RunError(
        f"there is no run {identity!r} in the trash of {home}; list it with: python -m engine trash"
    )


def _folders(home: Path) -> list[tuple[str, float, Path]]:
    """(id, when it was deleted, folder) of everything in the trash, the latest first."""
    folder = Path(home) / homes.TRASH
    found = []
    for path in folder.iterdir() if folder.exists() else ():
        match = _NAME.match(path.name)
        if match and path.is_dir():
            try:
                when = calendar.timegm(time.strptime(match[1], _STAMP))
            except ValueError:  # digits that are not a date: not from Graft
                continue
            found.append((match[2], float(when), path))
    return sorted(found, key=lambda entry: (entry[1], entry[0]), reverse=True)
