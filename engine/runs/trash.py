"""The trash: deleted runs, kept until it is emptied.

GRAFT_HOME/trash/20261124T225012Z.ID/    the folder of run ID as it was, named by when it was deleted

Deleting and restoring are one rename each, so a run is whole in one place or in the other whatever
happens meanwhile, and the note of when is never half-written.
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
        bytes: what its folder takes.
        path: its folder now.
    """

    id: str
    name: str
    deleted: float
    bytes: int
    path: Path


def delete(run: runs.Run) -> None:
    """Moves a run to the trash.

    Raises:
        RunError: while it is active, if it has gone, or if the folder cannot be moved.
    """
    if run.status in runs.ACTIVE:
        raise RunError(f"run {run.id} is {run.status}; stop it before deleting it")
    move(run.path)


def move(path: Path) -> None:
    """Moves a folder of GRAFT_HOME/runs to the trash, even one that is no run. Raises RunError."""
    trash, now = path.parent.parent / "trash", time.time()
    trash.mkdir(exist_ok=True)
    while (target := trash / f"{time.strftime(_STAMP, time.gmtime(now))}.{path.name}").exists():
        now += 1  # the same id twice within a second: a copy that was put back
    try:
        os.rename(path, target)
    except FileNotFoundError:
        raise RunError(
            f"run {path.name} is no longer there; it may have been deleted before"
        ) from None
    except OSError as error:
        raise RunError(
            f"run {path.name} could not be moved to {trash} ({error.strerror}); the trash must be a "
            "folder on the same disk that you can write to"
        ) from None


def listed(home: Path) -> list[Deleted]:
    """Everything in the trash, deleted last first."""
    found = []
    for identity, deleted, path in _folders(home):
        try:
            name = runs.Run(path).recipe.name
        except GraftError:
            name = identity
        found.append(Deleted(identity, name, deleted, homes.folder_bytes(path), path))
    return found


def find(home: Path, identity: str) -> Path | None:
    """The folder of a deleted run, the one deleted last if there are several; None if there is none."""
    return next((path for name, _, path in _folders(home) if name == identity), None)


def restore(home: Path, identity: str) -> runs.Run:
    """Puts a deleted run back, as it was.

    Raises:
        RunError: if the trash does not hold it, or a run with its id is there.
    """
    source = find(home, identity)
    if source is None:
        raise _unknown(home, identity)
    target = Path(home) / "runs" / identity
    exists = RunError(
        f"there is a run {identity} already, so the one in the trash is not put over it; delete that "
        "one first, or rename its folder"
    )
    if target.exists():
        raise exists
    try:
        os.rename(source, target)
    except FileNotFoundError:
        raise _unknown(home, identity) from None
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):  # it came this moment
            raise exists from None
        raise RunError(f"run {identity} could not be put back ({error.strerror})") from None
    return runs.Run(target)


def empty(home: Path, identity: str | None = None) -> tuple[int, int]:
    """Deletes for good what is in the trash.

    Args:
        home: Graft's home.
        identity: of the one run to delete; None for all.

    Returns:
        (number of runs, bytes freed).

    Raises:
        RunError: if the trash does not hold it, or a file cannot be deleted.
    """
    chosen = [e for e in _folders(home) if identity in (None, e[0])]
    if identity is not None and not chosen:
        raise _unknown(home, identity)
    count = freed = 0
    for name, _, path in chosen:
        size = homes.folder_bytes(path)
        # Renamed first: a half-deleted run is neither listed nor restored.
        aside = path.with_name(f".deleted-{secrets.token_hex(4)}")
        try:
            os.rename(path, aside)
            shutil.rmtree(aside)
        except FileNotFoundError:  # restored or deleted by another this moment
            continue
        except OSError as error:
            raise RunError(
                f"run {name} could not be deleted for good ({error.strerror}: {error.filename})"
            ) from None
        count, freed = count + 1, freed + size
    return count, freed


def _unknown(home, identity) -> RunError:
    return RunError(
        f"there is no run {identity!r} in the trash of {home}; list it with: python -m engine trash"
    )


def _folders(home) -> list[tuple[str, float, Path]]:
    """(id, when it was deleted, folder) of everything in the trash, deleted last first."""
    folder = Path(home) / "trash"
    found = []
    for path in folder.iterdir() if folder.exists() else ():
        match = _NAME.match(path.name)
        if match and path.is_dir():
            try:
                when = calendar.timegm(time.strptime(match[1], _STAMP))
            except ValueError:  # digits that are no date: not one of ours
                continue
            found.append((match[2], float(when), path))
    return sorted(found, key=lambda entry: (entry[1], entry[0]), reverse=True)
