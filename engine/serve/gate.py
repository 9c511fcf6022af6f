"""What every request meets first, in this order: names, key, rate, size.

Each answer, refusals included, has headers that say to browsers what a page of it may do.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Collection

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.errors import GraftError
from engine.host import addresses
from engine.serve.keys import Key, Keys
from engine.serve.limits import Bounds, Held, Rate, address_of, too_many

CLIENT = "graft.client"
"""Where a request's scope has its client: a key's name or an address."""
HEALTH = "/health"
"""Needs no key and is not limited."""
HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of every answer that has no own one of the name (OWASP, REST Security Cheat Sheet)."""
NO_KEY = (
    "this endpoint needs a key that is valid: send the header Authorization: Bearer KEY; create a "
    "key with: python -m engine keys create NAME"
)
WAYS = (b'Bearer realm="Graft"', b'Basic realm="Graft", charset="UTF-8"')
"""To send it, each in a header of its own: Chromium reads one way in a header. With Basic, it asks
people for the key, as the password of any name."""
ENDING = "the endpoint is ending; send the request again later"


class Gate:
    """ASGI middleware that refuses a request before its body is read, or while it is.

    Args:
        app: the application behind it.
        bounds: what one client may send.
        names: it answers under these names and addresses, beside loopback and the address that the
            connection came to. A website that points a name of its own at this host (DNS
            rebinding) is refused.
        keys: if given, a request without a valid one is refused.

    Raises:
        GraftError: if one of the names is none.
    """

    def __init__(
        self, app: ASGIApp, bounds: Bounds, names: Collection[str] = (), keys: Keys | None = None
    ) -> None:
        self.app, self._bounds, self._keys = app, bounds, keys
        self._names = {*addresses.LOOPBACK, *map(_name, names)}
        self._rate, self._held = Rate(bounds.rate), Held(bounds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with 401, 403, 413 or 429."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started = False
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            size = len(message.get("body", b""))
            read += size
            self._held.add(client, size)
            self._check_size(read)
            return message

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(_with_headers(message))

        try:
            client = self._enter(scope)
        except HTTPException as error:
            return await _answer(error)(scope, receive, sending)
        try:
            await self.app({**scope, CLIENT: client}, counted, sending)
        except asyncio.CancelledError:  # it takes longer than the server waits before it ends
            if started:
                raise
            await _answer(HTTPException(503, ENDING))(scope, receive, sending)
        finally:
            self._held.remove(client, read)

    def _enter(self, scope: Scope) -> str:
        """The client. Raises HTTPException if it must not enter."""
        self._check_names(scope)
        client = address_of(scope)
        if scope["path"] == HEALTH:
            return client
        key = self._key(scope)
        if key:
            client = f"key {key.name}"
        wait = self._rate.wait(client)
        if wait:
            text = f"more than {self._bounds.rate} requests a minute; wait a while"
            raise too_many(f"this client sent {text}", wait)
        if self._keys and not key:
            raise HTTPException(401, NO_KEY)
        scope_of_path = "classify" if scope["path"] == "/classify" else "about"
        if key and scope_of_path not in key.scopes:
            text = f"this key is for {' and '.join(key.scopes)}, not for {scope_of_path}"
            raise HTTPException(403, f"{text}; use another key")
        stated = _header(scope, b"content-length") or ""
        self._check_size(int(stated) if stated.isdigit() else 0)
        return client

    def _check_names(self, scope: Scope) -> None:
        """Raises HTTPException if a page of another website may have sent the request."""
        host, origin = _header(scope, b"host"), _header(scope, b"origin")
        name = addresses.name_of(host)
        reached = addresses.bare((scope.get("server") or ("",))[0])
        if name is None or name not in {*self._names, reached}:
            raise HTTPException(
                403,
                "the endpoint does not answer under this name; whoever runs it can allow a name "
                "with --allowed-host NAME",
            )
        # The scheme is ignored: a proxy may have removed the encryption.
        if origin is not None and origin.partition("://")[2] != host:
            raise HTTPException(403, "the endpoint does not answer to pages of other websites")

    def _key(self, scope: Scope) -> Key | None:
        """The request's key, as a bearer token or as the password that a browser asks for."""
        if not self._keys:
            return None
        kind, _, given = (_header(scope, b"authorization") or "").partition(" ")
        if kind.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return None
        elif kind.lower() != "bearer":
            return None
        try:
            return self._keys.find(given.strip())
        except (GraftError, OSError) as error:
            logging.getLogger("uvicorn.error").error("error: %s", error)
            text = "the endpoint cannot read its keys; its log says why"
            raise HTTPException(500, text) from None

    def _check_size(self, count: int) -> None:
        most = self._bounds.request_bytes
        if count > most:
            text = f"the request is larger than {most:,} bytes; send fewer or smaller files"
            raise HTTPException(413, text)


def _name(given: str) -> str:
    name = addresses.name_of(f"[{given}]" if given.count(":") > 1 else given.strip())
    if name is None:
        raise GraftError(
            f"an allowed host is a name or an address, such as graft.example; {given!r} was given"
        )
    return name


def _answer(error: HTTPException) -> JSONResponse:
    answer = JSONResponse({"error": error.detail}, error.status_code, error.headers)
    if error.status_code == 401:
        answer.raw_headers += [(b"www-authenticate", way) for way in WAYS]
    return answer


def _with_headers(message: Message) -> Message:
    if message["type"] != "http.response.start":
        return message
    there = {name.lower() for name, _ in message["headers"]}
    more = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in there]
    return {**message, "headers": [*message["headers"], *more]}


def _header(scope: Scope, name: bytes) -> str | None:
    """A request's header; None if it is missing or repeated."""
    values = [value for key, value in scope["headers"] if key == name]
    return values[0].decode("latin-1") if len(values) == 1 else None
