"""Limits of the endpoint: how much one client may send, how often, and how many wait."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.types import Scope

from engine.host import addresses

ADDRESSES = 10_000
"""Most clients whose rate is remembered; the one that was silent for longest is dropped first."""
AT_ONCE = 2
"""Requests that are classified at the same time; each already uses all cores."""
WAITING = 256
"""Most requests that are classified or wait for it; more are asked to come back."""
EACH = WAITING // 2
"""Most of them from one client, so that others find a place."""
ENOUGH = 16
"""Answers in a row, while requests wait, that say how fast answers are given."""
LATER = 30
"""Most seconds after which a client is asked to come back."""
HELD = 400_000_000
"""Bytes of requests that are arriving, waiting or being classified (at least 4 requests of the
largest size), half of them from one client. Files beyond a megabyte wait on the disk."""


@dataclass(frozen=True)
class Bounds:
    """What one client may send.

    Attributes:
        file_bytes: largest image file.
        files: most files in a request.
        request_bytes: largest request.
        rate: requests a minute from one client; 0 for no limit.
    """

    file_bytes: int = 20_000_000
    files: int = 32
    request_bytes: int = 100_000_000
    rate: int = 120


def too_many(text: str, seconds: float = 1) -> HTTPException:
    """The answer 429: a sentence, and after how many seconds to come back."""
    return HTTPException(429, text, {"Retry-After": str(math.ceil(seconds))})


class Rate:
    """Token buckets: each client may send `per_minute` requests at once, then one per refill.

    A bucket refills over a minute.

    Args:
        per_minute: requests; 0 for no limit.
        clock: seconds, for tests.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic):
        self._most, self._clock = per_minute, clock
        # client → (tokens, when counted), the longest silent first
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Takes a token; returns 0, or the seconds until there is one."""
        if not self._most:
            return 0.0
        now = self._clock()
        tokens, counted = self._buckets.pop(client, (self._most, now))
        tokens = min(self._most, tokens + (now - counted) * self._most / 60)
        allowed = tokens >= 1
        self._buckets[client] = (tokens - allowed, now)
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - tokens) * 60 / self._most


class Held:
    """Counts the bytes of the requests under way.

    Args:
        bounds: of one client.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._most = max(HELD, 4 * bounds.request_bytes)
        self._bytes: Counter[str] = Counter()

    def add(self, client: str, count: int) -> None:
        """Counts bytes that arrived. Raises HTTPException (429) if they are too many."""
        self._bytes[client] += count
        if self._bytes[client] > self._most // 2 or self._bytes.total() > self._most:
            raise too_many("too much is being sent at once; send it again in a moment")

    def remove(self, client: str, count: int) -> None:
        """A request with this number of bytes has ended."""
        self._bytes[client] -= count
        if self._bytes[client] <= 0:
            del self._bytes[client]  # or clients would add up for ever


class Queue:
    """Requests that arrived completely wait here until it is their turn, first come, first served.

    Who finds no place is asked to come back later: each one a little later than the one before, as
    fast as requests are answered at the moment, so that they do not all come back at once.

    Args:
        clock: seconds, for tests. It decides when clients are asked to come back, nothing else.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._turn, self._clock = asyncio.Semaphore(AT_ONCE), clock
        self._inside: Counter[str] = Counter()
        self._every = 0.01  # seconds from answer to answer while requests wait; a guess at first
        self._busy = (0.0, 0)  # since when requests wait, and how many were answered since
        self._next = 0.0  # when the next client that finds no place may come back

    def check(self, client: str) -> None:
        """Raises HTTPException (429) if there is no place for a client."""
        if self._inside.total() >= WAITING:
            text = "too many requests are waiting"
        elif self._inside[client] >= EACH:
            text = f"{EACH} of your requests are waiting"
        else:
            return
        seconds = self._later()
        raise too_many(f"{text}; try again in {seconds} s", seconds)

    def _later(self) -> int:
        now = self._clock()
        self._next = max(self._next, now + self._inside.total() * self._every) + self._every
        self._next = min(self._next, now + LATER)
        return max(1, math.ceil(self._next - now))

    @contextlib.asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Waits for a turn. Raises HTTPException (429) if there is no place to wait."""
        self.check(client)
        self._inside[client] += 1
        if self._inside.total() == AT_ONCE + 1:
            self._busy = self._clock(), 0
        try:
            async with self._turn:
                yield
        finally:
            self._end(client)

    def _end(self, client: str) -> None:
        if self._inside.total() > AT_ONCE:
            since, answered = self._busy
            self._busy = since, answered + 1
            if answered >= ENOUGH:
                self._every = (self._clock() - since) / (answered + 1)
        self._inside[client] -= 1
        if not self._inside[client]:
            del self._inside[client]
        if not self._inside:
            self._next = 0.0


def address_of(scope: Scope) -> str:
    """The client's address; for IPv6, its network of 64 bits, which belongs to one client."""
    host = addresses.bare((scope.get("client") or ("unknown",))[0])
    if ":" not in host:
        return host
    try:
        return str(ipaddress.ip_network((host.partition("%")[0], 64), strict=False))
    except ValueError:  # words of a proxy
        return host
