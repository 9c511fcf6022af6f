"""Sessions: who is signed in in which browser. The browser holds a random token in a cookie."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from engine.accounts import store, users
from engine.accounts.store import AccountError
from engine.accounts.users import User
from engine.errors import DiskError, ReadOnlyHome

IDLE, MOST = 12 * 3600, 7 * 24 * 3600
"""Seconds after which a session ends that was not used, and that was used. Training is watched for
hours, so the first is longer than the 30 minutes that OWASP recommends for low-risk applications
(Session Management Cheat Sheet)."""
SEEN_EVERY = 60
"""Seconds between two writes of when a session was last used."""


def begin(home: Path, user: str, proof: str | None = None) -> str:
    """Starts a session and returns its token, which only the browser keeps.

    Args:
        home: Graft's home.
        user: a user's name.
        proof: theirs (`User.proof`) when they signed in; None asks for no proof.

    Raises:
        AccountError: if the user was removed, or their password changed, since then.
    """
    token, now = store.new_token(), time.time()
    with store.transaction(home) as db:
        db.execute("DELETE FROM sessions WHERE created < ? OR seen < ?", (now - MOST, now - IDLE))
        found = db.execute("SELECT * FROM users WHERE name = ?", (user,)).fetchone()
        if proof is not None and (found is None or users.of_row(found).proof != proof):
            raise AccountError(f"the account of {user} has just changed; sign in again")
        row = (store.digest(token), user, now, now)
        db.execute("INSERT INTO sessions VALUES (?, ?, ?, ?)", row)
    return token


def user_of(home: Path, token: str) -> User | None:
    """The user of a session, with the role of now; None if it has ended."""
    if not token or not store.exists(home):
        return None
    key, now = store.digest(token), time.time()
    with store.transaction(home, write=False) as db:
        row = db.execute(
            "SELECT user, seen FROM sessions WHERE token = ? AND created > ? AND seen > ?",
            (key, now - MOST, now - IDLE),
        ).fetchone()
    if row is None:
        return None
    if now - row["seen"] > SEEN_EVERY:
        # A full disk must not keep anyone from the pages, where runs can be deleted. The session
        # ends as if it were not used until there is room.
        with contextlib.suppress(DiskError, ReadOnlyHome), store.transaction(home) as db:
            db.execute("UPDATE sessions SET seen = ? WHERE token = ?", (now, key))
    return users.get(home, row["user"])


def end(home: Path, token: str) -> None:
    """Ends a session: signing out."""
    with store.transaction(home) as db:
        db.execute("DELETE FROM sessions WHERE token = ?", (store.digest(token),))


def end_all(home: Path, user: str) -> int:
    """Ends all sessions of a user; returns how many."""
    with store.transaction(home) as db:
        return db.execute("DELETE FROM sessions WHERE user = ?", (user,)).rowcount
