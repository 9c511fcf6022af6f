"""Only Graft's own pages may talk to the server, no other website.

A browser lets a page of any website send requests to this host. If the website's owner points a
name here (DNS rebinding), the page can read the answers too. It can also open a websocket to any
host. The browser always reports the requested name in `Host`, and the page that opened a websocket
in `Origin`.
"""

import re
from functools import lru_cache
from urllib.parse import urlsplit

import streamlit as st

LOOPBACK = ("localhost", "127.0.0.1", "::1")
FOREIGN_HOST = (
    "Graft does not answer under this name: open it as http://localhost with its port, or start it "
    "with --server.allowedHosts=NAME (see its README)."
)
FOREIGN_ORIGIN = (
    "Graft takes a websocket or an upload only from a page of its own address: a proxy in front of "
    "it must forward the Host header unchanged (see its README)."
)
SAFE = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing (RFC 9110, 9.2.1): browsers send them without Origin."""
HEADERS = {
    # Streamlit needs inline scripts and styles, and blobs for downloads and its workers. No other
    # host is asked for anything, so a name or a note that becomes HTML cannot call out.
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' "
    "'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; media-src 'self' data: blob:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "same-origin",
}
"""Headers of every answer (OWASP, HTTP Security Response Headers Cheat Sheet)."""


def allowed_hosts() -> list[str]:
    """Names and addresses, without a port, that Graft answers under.

    They are the loopback names, and those in the options server.allowedHosts, server.address and
    browser.serverAddress.
    """
    shown = st.get_option("browser.serverAddress")  # may have a scheme and a path
    shown = urlsplit(shown if "//" in shown else f"//{shown}").hostname
    listed = [*st.get_option("server.allowedHosts"), st.get_option("server.address"), shown]
    names = [*LOOPBACK, *(name.strip().lower().rstrip(".") for name in listed if name)]
    return list(dict.fromkeys(names))


def why_not(scope, hosts: tuple[str, ...]) -> str | None:
    """Why a request is refused, whoever sends it; None if it comes from a page of Graft's own.

    Args:
        scope: of the request.
        hosts: of `allowed_hosts`; "*.name" stands for all subdomains of a name, "*" for any name.
    """
    host = header(scope, b"host")
    if not _allows(host, hosts):
        return FOREIGN_HOST
    if scope["type"] == "websocket" or scope["method"] not in SAFE:
        origin = header(scope, b"origin")
        # The scheme is ignored: a proxy may have removed the encryption.
        if origin is None or origin.partition("://")[2] != host:
            return FOREIGN_ORIGIN
    return None


@lru_cache(maxsize=64)
def _allows(host: str | None, hosts: tuple[str, ...]) -> bool:
    found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^\[\]:@/\s]+)(:\d+)?", (host or "").lower())
    if not found:
        return False
    name = found[1].strip("[]").rstrip(".")
    return any(
        each in ("*", name) or (each.startswith("*.") and name.endswith(each[1:])) for each in hosts
    )


def with_headers(send, keep: bool = True):
    """`send` that adds `HEADERS` to an answer; one that an answer has already stays.

    Args:
        send: of the request.
        keep: whether a browser may keep pages, for its Back button.
    """

    def sending(message):  # an awaitable, like that of `send`
        if message["type"] == "http.response.start":
            there = {name.lower(): value for name, value in message["headers"]}
            found = [each for each in _HEADERS if each[0] not in there]
            if not keep and there.get(b"content-type", b"").startswith(b"text/html"):
                found.append((b"cache-control", b"no-store"))
                kept = [each for each in message["headers"] if each[0].lower() != b"cache-control"]
                message = {**message, "headers": kept}
            message = {**message, "headers": [*message["headers"], *found]}
        return send(message)

    return sending


_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


def header(scope, name: bytes) -> str | None:
    """A request's header; None if it is missing or repeated."""
    values = [value for key, value in scope["headers"] if key.lower() == name]
    return values[0].decode("latin-1") if len(values) == 1 else None
