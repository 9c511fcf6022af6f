"""How much one client of the endpoint may send, and how often; light."""

import ipaddress
import math
import time
from collections import OrderedDict
from dataclasses import dataclass

ADDRESSES = 10_000
"""Clients whose rate is remembered; the one that was silent for longest is forgotten first."""


@dataclass(frozen=True)
class Bounds:
    """What one client may ask for.

    Attributes:
        file_bytes: of one image file.
        files: in a request.
        request_bytes: of a whole request. Files beyond a megabyte wait on the disk, not in memory.
        rate: requests a minute from one address; 0 for any number.
    """

    file_bytes: int = 20_000_000
    files: int = 32
    request_bytes: int = 100_000_000
    rate: int = 120


class Rate:
    """Token buckets: each address may ask `per_minute` times at once, and its bucket fills again over a minute.

    Args:
        per_minute: requests; 0 for any number.
        clock: seconds, for tests.
    """

    def __init__(self, per_minute: int, clock=time.monotonic):
        self._most, self._clock = per_minute, clock
        self._buckets = OrderedDict()  # address → (tokens, when counted), the longest silent first

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


def address_of(scope) -> str:
    """Who asks: an address, of IPv6 its network of 64 bits, which one client has for itself."""
    host = (scope.get("client") or ("unknown",))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host


class Gate:
    """Turns away who asks too often or sends too much, before the body is read; counts what is read, since
    a request may say nothing of its length, or a lie."""

    def __init__(self, app, bounds: Bounds):
        self.app, self._bounds, self._rate = app, bounds, Rate(bounds.rate)

    async def __call__(self, scope, receive, send):
        from starlette.exceptions import HTTPException
        from starlette.responses import JSONResponse

        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        wait = 0 if scope["path"] == "/health" else self._rate.wait(address_of(scope))
        if wait:
            text = f"this address asked more than {self._bounds.rate} times a minute; wait and ask again"
            headers = {"Retry-After": str(math.ceil(wait))}
            return await JSONResponse({"error": text}, 429, headers)(scope, receive, send)
        most, read = self._bounds.request_bytes, 0
        told = dict(scope["headers"]).get(b"content-length", b"")
        text = f"the request is larger than {most:,} bytes; send fewer or smaller files"
        if told.isdigit() and int(told) > most:
            return await JSONResponse({"error": text}, 413)(scope, receive, send)

        async def counted():
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise HTTPException(413, text)
            return message

        await self.app(scope, counted, send)
