"""What requests carry: counted as it arrives, and refused before it fills the memory."""

import asyncio
import contextlib
from collections.abc import Callable

from starlette.exceptions import HTTPException

from pages._gate import origin

LINGER = 30.0
"""Seconds for which the rest of a refused body is thrown away, before the connection is closed: a
browser shows an answer only after it has sent all (nginx, `lingering_time`)."""
SECONDS, BYTES = 30.0, 5_000
"""For a body to arrive, and how many bytes earn it another second, as at `engine.serve.server`:
slow ones would keep their places, and the room for uploads, from others."""
SLOW = "the request came too slowly; send it again over a better connection"


class Body:
    """A request's body on its way in, and the answer to it.

    Args:
        receive, send: of the request.
        grown: gets the bytes that have arrived so far; returns why that is too much, or None.
        taken: is called when they no longer arrive, as the answer begins.
        seconds: in which all must arrive, from now on, beside those that its bytes earn.
    """

    def __init__(
        self,
        receive,
        send,
        grown: Callable[[int], str | None],
        taken=lambda: None,
        seconds: float = SECONDS,
    ):
        self._until = asyncio.get_running_loop().time() + seconds
        self._receive, self._send, self.grown, self._taken = receive, send, grown, taken
        self._bytes, self._more, self._refused = 0, True, False

    async def receive(self):
        """The next message. Raises HTTPException if it is too much (413) or too slow (408)."""
        try:
            until = self._until + self._bytes / BYTES if self._more else None
            async with asyncio.timeout_at(until):
                message = await self._next()
        except TimeoutError:
            raise HTTPException(408, SLOW) from None
        if not self._refused and (why := self.grown(self._bytes)):
            self._refused = True
            raise HTTPException(413, why)
        return message

    async def _next(self):
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        self._more = message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def send(self, message) -> None:
        """Sends the answer; a refusal ends only when the browser is ready to read it."""
        if message["type"] == "http.response.start":
            self._taken()
        if message["type"] == "http.response.start" and message["status"] in (408, 413):
            self._refused = message["status"] == 413
            message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not (self._refused and last and self._more):
            return await self._send(message)
        await self._send({**message, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while self._more:
                    await self._next()
        await self._send({"type": "http.response.body", "body": b""})


def stated(scope) -> int | None:
    """Bytes of the body, as the request says before it; None if it does not."""
    text = origin.header(scope, b"content-length") or ""
    return int(text) if text.isascii() and text.isdigit() else None
