"""How many requests one client may have under way, so that it keeps no place from others."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

AT_ONCE = 32
"""Requests of one client that are answered at the same time. A browser sends 6, or 100 through a
proxy that speaks HTTP/2; those wait here for a moment."""
WAITING = 512
"""Requests of one client that wait; more are refused."""
SOCKETS = 200
"""Open pages of one client: a class behind one address, before anybody has an account."""


class TooMany(Exception):
    """A client has too many requests under way."""


class Clients:
    """The requests under way, by client: a user's name, or an address."""

    def __init__(self):
        self._places: dict[str, asyncio.Semaphore] = {}
        self._requests: Counter[str] = Counter()
        self._sockets: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def request(self, client: str) -> AsyncIterator[None]:
        """A place for a request, for which it waits. Raises TooMany."""
        with _counted(self._requests, client, AT_ONCE + WAITING):
            try:
                async with self._places.setdefault(client, asyncio.Semaphore(AT_ONCE)):
                    yield
            finally:
                if self._requests[client] == 1:  # the last one
                    self._places.pop(client, None)

    def socket(self, client: str) -> contextlib.AbstractContextManager[None]:
        """A place for a websocket. Raises TooMany."""
        return _counted(self._sockets, client, SOCKETS)


@contextlib.contextmanager
def _counted(counts: Counter[str], client: str, most: int):
    if counts[client] >= most:
        raise TooMany
    counts[client] += 1
    try:
        yield
    finally:
        counts[client] -= 1
        if not counts[client]:
            del counts[client]
