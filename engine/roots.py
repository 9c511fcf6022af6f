"""Which folders and files of this host Graft may read for somebody who asks through a browser.

A person at a shell has the permissions of the operating system, and nothing more is asked. A
browser may be anyone's: the app restricts its process with `restrict`, and passes the same limits
to each process that works for a page (`environment`, `recorded`). What a page names is checked in
the functions through which every folder, zip and weights file is opened.

Graft's home has other users' batches and guests' photos: a folder around it does not open it.

Nothing of a path outside is looked at before `check`, so its sentence is the same whether there is
something or not. Paths are resolved first: a link inside that leads outside is outside.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from engine import home as homes
from engine.errors import DatasetError, GraftError

VARIABLE = "GRAFT_READS_BELOW"
"""The environment variable with the limits of a process that works for a page, as JSON."""
OUTSIDE = "it is a link to a place that pages may not read"
"""Why a link in a folder is left out."""


class Limits(TypedDict):
    """What a process may read.

    Keys:
        home: Graft's home, where it keeps uploads.
        below: the folders.
    """

    home: str
    below: list[str]


_limits: Callable[[], Limits] | None = None


def restrict(limits: Callable[[], Limits]) -> None:
    """Lets this process read only below some folders, and what Graft itself keeps of uploads.

    Args:
        limits: returns them; called for each check, so that a changed setting counts at once.
    """
    global _limits
    _limits = limits


def restore(limits: Limits | None) -> None:
    """Gives this process the limits of the one that it works for; None for no limits."""
    global _limits
    _limits = None if limits is None else lambda: limits


def recorded() -> Limits | None:
    """The limits of this process, to `restore` them in another one; None if there are none."""
    return None if _limits is None else _limits()


def environment() -> dict[str, str]:
    """Variables that give a process the limits of this one from its start."""
    limits = recorded()
    return {VARIABLE: json.dumps(limits)} if limits else {}


def check(path: str | os.PathLike[str], kind: type[GraftError] = DatasetError) -> None:
    """Raises an error of `kind`, one sentence, for a path that this process may not read."""
    limits = recorded()
    if limits is None or _allows(limits, path):
        return
    below = " or ".join(limits["below"])
    where = f"only folders and files below {below}" if below else "no folder of this host"
    raise kind(
        f"Graft may read {where} for a page; move the data there, or change the setting "
        "allowed_roots with python -m engine settings"
    )


def allows(path: str | os.PathLike[str]) -> bool:
    """Whether this process may read a path, whether there is something or not."""
    limits = recorded()
    return limits is None or _allows(limits, path)


def _allows(limits: Limits, path: str | os.PathLike[str]) -> bool:
    text = os.fspath(path)
    if text.startswith("~") and text[1:2] not in ("", "/"):
        return False  # ~user: where it leads would say whether there is such a user
    try:
        found = Path(os.path.realpath(os.path.expanduser(text)))
    except ValueError:  # a null byte
        return False
    home = Path(limits["home"]).resolve()
    for root in map(os.path.realpath, limits["below"]):
        if found.is_relative_to(root) and not (
            found.is_relative_to(home) and home.is_relative_to(root)
        ):
            return True
    return _kept(found, home)


def _kept(path: Path, home: Path) -> bool:
    """Whether a path is a file that Graft made of an upload: their names cannot be guessed, but a
    listing of their folders would give them away."""
    inside = path.relative_to(home).parts if path.is_relative_to(home) else ()
    place, name = (*inside, "", "")[:2]
    ours = place in (homes.UPLOADS, homes.BATCHES)
    ours = ours or (place == homes.RUNS and name.startswith(".import."))
    return ours and os.path.isfile(path)


if VARIABLE in os.environ:
    restore(json.loads(os.environ[VARIABLE]))
