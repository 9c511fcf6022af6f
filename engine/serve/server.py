"""The server under the endpoint: uvicorn, with what it leaves to a proxy in front.

uvicorn waits for a request for ever, and its `limit_concurrency` counts connections that send
nothing, so that a few hundred of them turn everyone away. Here a request must arrive in time, and
a connection that has sent no complete request makes room for a new one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import resource
import signal
import socket
from collections.abc import Iterable
from typing import ClassVar

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from engine.errors import GraftError
from engine.serve.gate import HEADERS

SECONDS = 20
"""For a request to arrive; its body gets a second more for each `BYTES` (both as the module
reqtimeout of Apache httpd has them, but ten times as fast)."""
BYTES = 5_000
READ_SECONDS = 30
"""For a client to read the next piece of an answer."""
CONNECTIONS = 4096
"""Most open connections; half the files that the system lets a process open, if that is less."""
BACKLOG = 2048
"""Connections that the system accepts before the server looks."""
UNREAD = 1
"""Seconds after the port was closed in which requests on open connections are still read."""
GRACE = 30
"""Seconds for requests under way to be answered before the process ends."""


class Patient(H11Protocol):
    """uvicorn's protocol, with a time limit on requests that arrive and on answers that are read.

    While a connection's request has not arrived completely, the connection is in `waiting`, the
    longest waiting first; when there are too many connections, that one is closed.
    """

    waiting: ClassVar[dict[Patient, asyncio.TimerHandle]] = {}
    most: ClassVar[int] = CONNECTIONS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        super().connection_made(transport)
        self._stalled: asyncio.TimerHandle | None = None
        self._expect()
        if len(self.connections) > self.most:
            longest = next(iter(self.waiting))
            longest._arrived()  # now, as many connections may open before it is lost
            longest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._arrived()
        self._stop_stalled()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A piece of a request came."""
        self._bytes += len(data)
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """An answer was sent; the next request may have arrived already."""
        super().on_response_complete()
        self._expect()
        self._look()

    def shutdown(self) -> None:
        """The server ends: what was sent before may not be read yet."""
        if self._under_way():
            super().shutdown()
        else:
            self.loop.call_later(UNREAD, self._shut)

    def _shut(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    def pause_writing(self) -> None:
        """The client reads slower than the answer is sent."""
        super().pause_writing()
        self._stalled = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read what was sent."""
        super().resume_writing()
        self._stop_stalled()

    def send_400_response(self, msg: str) -> None:
        """Refuses what is not HTTP, or has a header of more than h11's 16 kB."""
        self._refuse(400, "the request cannot be read; send HTTP/1.1 with a header below 16 kB")

    def _under_way(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect(self) -> None:
        """A request may arrive from now on."""
        self._arrived()
        self._since, self._bytes = self.loop.time(), 0
        self.waiting[self] = self.loop.call_later(SECONDS, self._late)

    def _look(self) -> None:
        if self._under_way() and not self.cycle.more_body:
            self._arrived()

    def _arrived(self) -> None:
        timer = self.waiting.pop(self, None)
        if timer:
            timer.cancel()

    def _late(self) -> None:
        # A body that is no longer wanted, as its request is answered already, earns no time.
        earned = self._bytes / BYTES if self._under_way() else 0
        left = self._since + SECONDS + earned - self.loop.time()
        if left > 0:
            self.waiting[self] = self.loop.call_later(left, self._late)
        elif self.transport.get_write_buffer_size():  # nor does it read
            self.transport.abort()
        elif self._bytes:
            self._refuse(408, f"the request was not complete after {SECONDS + earned:.0f} s")
        else:
            self.transport.close()

    def _refuse(self, status: int, text: str) -> None:
        """Answers, if the request has no answer yet, and closes the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            head = self.scope is not None and self.scope["method"] == "HEAD"  # h11 allows no body
            body = b"" if head else json.dumps({"error": text}).encode()
            own = {
                "content-type": "application/json",
                "content-length": str(len(body)),
                "connection": "close",
            }
            headers = [(n.encode(), v.encode()) for n, v in (HEADERS | own).items()]
            for event in (
                h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status]),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _stop_stalled(self) -> None:
        if self._stalled:
            self._stalled.cancel()
            self._stalled = None


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address.

    Raises:
        GraftError: if the address is not one of this host's, or the port is taken.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With its protocol named, asyncio sends each answer at once (TCP_NODELAY).
        found = socket.socket(family, kind, socket.IPPROTO_TCP)
    except OSError as error:
        raise GraftError(f"this host has no address {host} ({error.strerror})") from None
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(address)
        found.listen(BACKLOG)  # now, so that two processes never share a port
    except OSError as error:
        found.close()
        raise GraftError(
            f"cannot listen on port {port} of {host} ({error.strerror}); choose another port with "
            "--port"
        ) from None
    return found


def networks(proxies: Iterable[str]) -> list[str]:
    """Addresses and networks of proxies, as IPv4 and as IPv6 shows it.

    Raises:
        GraftError: if one is not an address or network. A name would not do: what it means may
            change, and "*" would let each client choose its address.
    """
    found = []
    for text in proxies:
        try:
            network = ipaddress.ip_network(text.strip())
        except ValueError:
            raise GraftError(
                f"a trusted proxy is an address or a network, such as 10.0.0.7 or 10.0.0.0/24; "
                f"{text!r} was given"
            ) from None
        found.append(str(network))
        if network.version == 4:
            found.append(f"::ffff:{network.network_address}/{96 + network.prefixlen}")
    return found


def server(app: ASGIApp, proxies: Iterable[str] = ()) -> uvicorn.Server:
    """The server of an application.

    Args:
        app: the application.
        proxies: addresses and networks whose header X-Forwarded-For is believed: the client is the
            last address in it that is not of `proxies`.

    Raises:
        GraftError: if one of the proxies is not an address or network.
    """
    trusted = networks(proxies)
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=Patient,
            ws="none",
            log_config=None,  # uvicorn's would close the handlers of the whole process
            log_level="error",  # who sends nonsense must not fill the log
            access_log=False,
            server_header=False,
            proxy_headers=bool(trusted),
            forwarded_allow_ips=trusted,
            backlog=BACKLOG,
            timeout_graceful_shutdown=GRACE,
        )
    )


def serve(made: uvicorn.Server, listening: socket.socket) -> None:
    """Answers requests until the process gets a signal to end (Ctrl-C, SIGTERM).

    Then the port is closed, and the requests under way get their answers; those that take longer
    than `GRACE` get the status 503.

    Args:
        made: of `server`.
        listening: of `listen`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * CONNECTIONS if hard == resource.RLIM_INFINITY else min(4 * CONNECTIONS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    Patient.most = min(CONNECTIONS, wanted // 2)
    # uvicorn passes the signal on when it has closed everything.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        made.run(sockets=[listening])
    except KeyboardInterrupt:
        return
