"""Share links: a guest page for one run, for a limited time and number of images."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from pathlib import Path

from engine.accounts import store
from engine.accounts.store import AccountError

HOURS, USES = 24, 100
"""How long a link works, and for how many images, unless the sharer chooses."""
MOST_HOURS, MOST_USES = 24 * 30, 10_000
GONE = "this link has expired or was revoked; ask whoever sent it for a new one"


@dataclass(frozen=True)
class Share:
    """A link to a run.

    Attributes:
        id: short and public, to list and to revoke it.
        run: the run's id.
        by: who shared it.
        created, expires: unix seconds.
        uses: images that guests may send, at most.
        used: images that they sent.
        collect: whether their images are kept, as the sharer asked.
        wall: whether a wall shows the answers.
    """

    id: str
    run: str
    by: str
    created: float
    expires: float
    uses: int
    used: int
    collect: bool
    wall: bool

    @property
    def works(self) -> bool:
        """Whether a guest can send an image now."""
        return self.used < self.uses and time.time() < self.expires


def create(
    home: Path,
    run: str,
    by: str,
    *,
    hours: float = HOURS,
    uses: int = USES,
    collect: bool = False,
    wall: bool = False,
) -> tuple[Share, str, str | None]:
    """Creates a link.

    Args:
        home: Graft's home.
        run: id of a finished run.
        by: a user's name.
        hours: above 0, at most `MOST_HOURS`.
        uses: images that guests may send, 1 to `MOST_USES`.
        collect: whether to keep their images.
        wall: whether to show their answers on a wall.

    Returns:
        (the Share, the guests' token, the wall's token or None). The tokens cannot be read again.

    Raises:
        AccountError: if a limit is out of bounds.
    """
    if not 0 < hours <= MOST_HOURS:
        raise AccountError(f"a link works for at most {MOST_HOURS} hours; {hours:g} was given")
    if not 1 <= uses <= MOST_USES:
        raise AccountError(f"a link takes 1 to {MOST_USES:,} images; {uses:,} was given")
    token, now = store.new_token(), time.time()
    walls = store.new_token() if wall else None
    key = store.digest(token)
    row = (key, key[:10], store.digest(walls) if walls else None, run, by)
    limits = (now, now + hours * 3600, uses, 0, collect)
    with store.transaction(home) as db:
        db.execute(f"INSERT INTO shares VALUES ({', '.join('?' * 10)})", row + limits)
    return Share(key[:10], run, by, now, limits[1], uses, 0, collect, wall), token, walls


def by_token(home: Path, token: str) -> Share | None:
    """The link of a guest's token, expired or not; None if it was revoked or never existed."""
    return _find(home, "token", token)


def by_wall(home: Path, token: str) -> Share | None:
    """The link of a wall's token, like `by_token`."""
    return _find(home, "wall", token)


def use(home: Path, token: str) -> Share:
    """Counts one image that a guest sends. Raises AccountError if the link no longer works."""
    with store.transaction(home) as db:
        row = db.execute(
            "UPDATE shares SET used = used + 1 WHERE token = ? AND used < uses AND expires > ? "
            "RETURNING *",
            (store.digest(token), time.time()),
        ).fetchone()
    if row is None:
        raise AccountError(GONE)
    return _share(row)


def revoke(home: Path, identity: str) -> None:
    """Ends a link at once. Raises AccountError if there is none with this id."""
    with store.transaction(home) as db:
        if not db.execute("DELETE FROM shares WHERE id = ?", (identity,)).rowcount:
            raise AccountError(f"there is no share {identity!r}; list them with: share --list")


def listed(home: Path) -> list[Share]:
    """All links that were not revoked, newest first; expired ones are forgotten after a month."""
    if not store.exists(home):
        return []
    with store.transaction(home) as db:
        db.execute("DELETE FROM shares WHERE expires < ?", (time.time() - MOST_HOURS * 3600,))
        rows = db.execute("SELECT * FROM shares ORDER BY created DESC").fetchall()
    return [_share(row) for row in rows]


def _find(home: Path, column: str, token: str) -> Share | None:
    if not token or not store.exists(home):
        return None
    with store.transaction(home, write=False) as db:
        row = db.execute(
            f"SELECT * FROM shares WHERE {column} = ?", (store.digest(token),)
        ).fetchone()
    return _share(row) if row else None


def _share(row) -> Share:
    kept = {each.name: row[each.name] for each in fields(Share)}
    return Share(**kept | {"collect": bool(row["collect"]), "wall": row["wall"] is not None})
