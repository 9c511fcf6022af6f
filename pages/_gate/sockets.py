"""Open websockets are looked at again and again, so that who is signed out is out."""

import asyncio

from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from engine.errors import GraftError

EVERY = 2.0
"""Seconds between two looks."""
SIGNED_OUT = 4401
"""The code with which a websocket is closed then; 4000 to 4999 are an application's own (RFC 6455,
7.4.2)."""


def _reload() -> bytes:
    """Streamlit's message that sends a page elsewhere. An empty address is the page itself: it is
    loaded again, and the gate answers with the sign-in page, which leads back to it."""
    message = ForwardMsg()
    message.auth_redirect.url = ""
    return message.SerializeToString()


async def send_away(scope, receive, send) -> None:
    """Answers a page whose session ended while it was not connected, after a night perhaps."""
    await receive()  # the handshake
    offered = scope.get("subprotocols") or [None]  # a browser wants one of those that it offers
    await send({"type": "websocket.accept", "subprotocol": offered[0]})
    await send({"type": "websocket.send", "bytes": _reload()})
    await send({"type": "websocket.close", "code": SIGNED_OUT})


class Watched:
    """A websocket that stays open only as long as `allowed` says.

    Args:
        send: of the websocket.
        allowed: says, when it is awaited, whether the websocket may stay open.
    """

    def __init__(self, send, allowed):
        self._send, self._allowed = send, allowed
        self._accepted = self._closed = False

    async def run(self, app, scope, receive) -> None:
        """Runs the application until the browser leaves, or may not stay."""
        running = asyncio.ensure_future(app(scope, receive, self.send))
        watching = asyncio.ensure_future(self._watch())
        try:
            await asyncio.wait({running, watching}, return_when=asyncio.FIRST_COMPLETED)
        finally:  # also when the server ends
            watching.cancel()
            running.cancel()  # hears nothing more, whatever the browser still sends
            found = await asyncio.gather(running, watching, return_exceptions=True)
        for error in found:
            if isinstance(error, Exception):  # not a CancelledError
                raise error

    async def send(self, message) -> None:
        """Sends a message; OSError once the websocket is closed, as the ASGI specification says."""
        if self._closed:
            raise OSError("the websocket was closed, as its session has ended")
        self._closed = message["type"] == "websocket.close"
        self._accepted = self._accepted or message["type"] == "websocket.accept"
        await self._send(message)

    async def _watch(self) -> None:
        while await self._stays():
            await asyncio.sleep(EVERY)
        if self._closed:
            return
        if self._accepted:
            await self.send({"type": "websocket.send", "bytes": _reload()})
        await self.send({"type": "websocket.close", "code": SIGNED_OUT})

    async def _stays(self) -> bool:
        try:
            return await self._allowed()
        except GraftError:  # the accounts cannot be read now: nobody is let in, and nobody out
            return True
