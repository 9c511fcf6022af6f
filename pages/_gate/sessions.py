"""Who is signed in: looked up once a second for each cookie, however many requests carry it."""

import asyncio
import re
import time
from dataclasses import dataclass

import anyio.to_thread

from engine import home as homes
from engine.accounts import roles, users
from engine.accounts import sessions as stored
from pages._gate.origin import header

COOKIE = "graft_session"
FRESH = 1.0
"""Seconds for which an answer is used again: a session that ended is noticed after at most these
and `sockets.EVERY`."""
KNOWN = 1_000
"""Answers that are kept; more only while they are fresh."""


@dataclass(frozen=True)
class Identity:
    """Who asks.

    Attributes:
        name: a user's name; None for the person on this host, in a home without accounts.
        role: one of `roles.ROLES`.
    """

    name: str | None
    role: str


LOCAL = Identity(None, roles.ADMIN)


def token(scope) -> str:
    """The token in a request's cookie, the one of the longest path; "" if there is none."""
    found = _TOKEN.findall(header(scope, b"cookie") or "")
    return found[0] if found else ""


_TOKEN = re.compile(rf"(?:^|;) *{COOKIE}=([\w-]+)", re.ASCII)  # of store.new_token


def look(secret: str, alone: bool) -> Identity | None:
    """Whose session a token is; None if it has ended.

    Args:
        secret: the token.
        alone: whether only people on this host reach Graft: then they are LOCAL while there are no
            accounts.

    Raises:
        GraftError: if the file of accounts cannot be read.
    """
    home = homes.folder()
    user = stored.user_of(home, secret)
    if user:
        return Identity(user.name, user.role)
    return LOCAL if alone and not users.needed(home) else None


class Sessions:
    """`look`, in threads of its own, so that slow thumbnails delay no one's sign-in.

    Args:
        alone: see `look`.
    """

    def __init__(self, alone: bool):
        self._alone = alone
        self._known: dict[str, tuple[float, asyncio.Future]] = {}
        self._threads = anyio.CapacityLimiter(4)

    async def who(self, secret: str) -> Identity | None:
        """`look`, at most `FRESH` seconds old."""
        now = time.monotonic()
        until, answer = self._known.get(secret, (0.0, None))
        if answer is None or until <= now:
            if len(self._known) >= KNOWN:
                self._known = {each: kept for each, kept in self._known.items() if kept[0] > now}
            looking = anyio.to_thread.run_sync(look, secret, self._alone, limiter=self._threads)
            answer = asyncio.ensure_future(looking)
            self._known[secret] = (now + FRESH, answer)
        if answer.done():
            return answer.result()
        return await asyncio.shield(answer)  # others wait for it too

    def forget(self, secret: str) -> None:
        """The session has begun or ended just now."""
        self._known.pop(secret, None)
