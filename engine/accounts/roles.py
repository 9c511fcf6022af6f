"""Roles, and what each may do: every action of `engine.actions` is in one table here.

A *viewer* tests models and has own batches and marks; a *trainer* also prepares datasets and trains
own runs; an *admin* may do everything, to everyone's things. The role is read from the file of
accounts for each action, so a change holds at once.
"""

from __future__ import annotations

from pathlib import Path

from engine.accounts import users
from engine.accounts.store import AccountError

LOCAL = "local"
"""Who asks on the command line, or on the pages of a home without accounts: an admin."""

VIEWER, TRAINER, ADMIN = users.ROLES
NEEDED = {
    "sign in": VIEWER,
    "classify images": VIEWER,
    "change a batch": VIEWER,
    "delete a batch": VIEWER,
    "mark images": VIEWER,
    "delete marks": VIEWER,
    "start a run": TRAINER,
    "stop a run": TRAINER,
    "pause a run": TRAINER,
    "resume a run": TRAINER,
    "restart a run": TRAINER,
    "continue a run": TRAINER,
    "kill a run": TRAINER,
    "delete a run": TRAINER,
    "restore a run": TRAINER,
    "calibrate a run": TRAINER,
    "export a run": TRAINER,
    "cancel an export": TRAINER,
    "download an export": TRAINER,
    "share a run": TRAINER,
    "revoke a share": TRAINER,
    "clear a wall": TRAINER,
    "delete guests' images": TRAINER,
    "measure a recipe": TRAINER,
    "cancel a measurement": TRAINER,
    "upload a zip": TRAINER,
    "prepare a dataset": TRAINER,
    "cancel preparing a dataset": TRAINER,
    "delete a prepared dataset": TRAINER,
    "inspect a dataset": TRAINER,
    "stop an inspection": TRAINER,
    "create a dataset": TRAINER,
    "add images": TRAINER,
    "undo an addition": TRAINER,
    "decide about images": TRAINER,
    "undo a decision": TRAINER,
    "redo a decision": TRAINER,
    "measure decisions": TRAINER,
    "stop measuring decisions": TRAINER,
    "move a run": ADMIN,
    "empty the trash": ADMIN,
    "import a run": ADMIN,
    "change settings": ADMIN,
    "clear the cache": ADMIN,
    "fix what is damaged": ADMIN,
    "change users": ADMIN,
    "change keys": ADMIN,
}
"""The lowest role that may do an action. What has an owner, only the owner may change, or an
admin."""


def of(home: Path, who: str) -> str:
    """The role of a user now. Raises AccountError if there is no such user (any more)."""
    if who == LOCAL:
        return ADMIN
    found = users.get(home, who)
    if found is None:
        raise AccountError(f"{who!r} has no account here (any more); sign in again")
    return found.role


def check(home: Path, who: str, action: str, owner: str | None = None) -> None:
    """Raises AccountError, with one sentence, unless somebody may do an action now.

    Args:
        home: Graft's home.
        who: a user's name, or `LOCAL`.
        action: a key of `NEEDED`.
        owner: of what it is done to; None if it has none.
    """
    if refused := refusal(of(home, who), who, action, owner):
        raise AccountError(refused)


def refusal(role: str, who: str, action: str, owner: str | None = None) -> str | None:
    """Why somebody with a role may not do an action, one sentence; None if they may.

    Args:
        role: of `who`.
        who, action, owner: as for `check`.
    """
    needed = NEEDED[action]
    if users.ROLES.index(role) < users.ROLES.index(needed):
        return f"to {action}, the role {needed} is needed; {who} has the role {role}"
    if owner not in (None, who) and role != ADMIN:
        ask = "an admin" if owner == LOCAL else owner
        return f"to {action} of {owner}, the role {ADMIN} is needed; ask {ask}"
    return None


def may(home: Path, who: str, action: str, owner: str | None = None) -> bool:
    """Whether `check` passes: for pages, which show only what can be done."""
    try:
        check(home, who, action, owner)
    except AccountError:
        return False
    return True


def sees(home: Path, who: str, owner: str) -> bool:
    """Whether somebody may see what is private to its owner and admins, such as a batch.

    Raises:
        AccountError: if there is no such user (any more).
    """
    return of(home, who) == ADMIN or owner == who
