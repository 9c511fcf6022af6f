"""Limits of the endpoint: how much one client may send, how often, and how many at once."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ADDRESSES = 10_000
"""Most clients whose rate is remembered; the one that was silent for longest is dropped first."""
WAITING = 16
"""Most requests under way; more are asked to come back."""
EACH = 8
"""Most requests under way from one address, so that one slow client cannot block all others."""


@dataclass(frozen=True)
class Bounds:
    """What one client may send.

    Attributes:
        file_bytes: largest image file.
        files: most files in a request.
        request_bytes: largest request. Files beyond a megabyte wait on the disk, not in memory.
        rate: requests a minute from one address; 0 for no limit.
    """

    file_bytes: int = 20_000_000
    files: int = 32
    request_bytes: int = 100_000_000
    rate: int = 120


class Rate:
    """Token buckets: each address may send `per_minute` requests at once, then one per refill.

    A bucket refills over a minute.

    Args:
        per_minute: requests; 0 for no limit.
        clock: seconds, for tests.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic):
        self._most, self._clock = per_minute, clock
        # address → (tokens, when counted), the longest silent first
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Takes a token; returns 0, or the seconds until there is one."""
        if not self._most:
            return 0.0
        now = self._clock()
        tokens, counted = self._buckets.pop(address, (self._most, now))
        tokens = min(self._most, tokens + (now - counted) * self._most / 60)
        allowed = tokens >= 1
        self._buckets[address] = (tokens - allowed, now)
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - tokens) * 60 / self._most


class Places:
    """Limits how many requests are under way, in all and from one address."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    @contextlib.contextmanager
    def take(self, address: str) -> Iterator[None]:
        """Holds a place for a request. Raises HTTPException (429 or 503) if there is none."""
        if self._taken[address] >= EACH:
            text = f"this address has {EACH} requests under way; try again when one is answered"
            raise HTTPException(429, text, {"Retry-After": "1"})
        if self._taken.total() >= WAITING:
            text = "too many requests at once; try again in a moment"
            raise HTTPException(503, text, {"Retry-After": "1"})
        self._taken[address] += 1
        try:
            yield
        finally:
            self._taken[address] -= 1
            if not self._taken[address]:
                del self._taken[address]  # or addresses would add up for ever


def address_of(scope: Scope) -> str:
    """The client's address; for IPv6, its network of 64 bits, which belongs to one client."""
    host = (scope.get("client") or ("unknown",))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host


class Gate:
    """Middleware that refuses requests that come too often or are too large.

    It answers before the body is read, and counts the bytes that are read: a request may not state
    its length, or state it wrongly.

    Args:
        app: the application behind it.
        bounds: of one client.
    """

    def __init__(self, app: ASGIApp, bounds: Bounds):
        self.app, self._bounds, self._rate = app, bounds, Rate(bounds.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with 413 or 429."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        wait = 0.0 if scope["path"] == "/health" else self._rate.wait(address_of(scope))
        if wait:
            text = (
                f"this address sent more than {self._bounds.rate} requests a minute; wait a while"
            )
            headers = {"Retry-After": str(math.ceil(wait))}
            return await JSONResponse({"error": text}, 429, headers)(scope, receive, send)
        most, read = self._bounds.request_bytes, 0
        stated = dict(scope["headers"]).get(b"content-length", b"")
        text = f"the request is larger than {most:,} bytes; send fewer or smaller files"
        if stated.isdigit() and int(stated) > most:
            return await JSONResponse({"error": text}, 413)(scope, receive, send)

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise HTTPException(413, text)
            return message

        await self.app(scope, counted, send)
