"""When Graft may start: whoever can reach it from elsewhere must need an account."""

import socket
from collections.abc import Sequence

import streamlit as st
import uvicorn.config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from engine.accounts import users
from engine.errors import GraftError
from engine.host import settings
from pages._gate import origin, signing_in
from pages._gate import provider as openid

FIRST = "create the first one with: python -m engine users add NAME --role admin"


def proxies(home) -> list[str]:
    """Addresses and networks whose headers are believed; an IPv4 address also as IPv6 shows it.

    None if the settings are damaged, which each page says.
    """
    try:
        listed = settings.get(home)["trusted_proxies"] or []
    except GraftError:
        return []
    return [*listed, *(f"::ffff:{each}" for each in listed if "." in each and "/" not in each)]


def believe(trusted: Sequence[str]) -> None:
    """Makes the server believe these proxies alone about who asks, and by which scheme.

    Streamlit starts uvicorn such that any program of this host is believed. The server loads the
    app before it puts that middleware around it, so it can still be given other proxies here.
    """
    uvicorn.config.ProxyHeadersMiddleware = lambda app, trusted_hosts: ProxyHeadersMiddleware(
        app, list(trusted)
    )


def answer_at_once() -> None:
    """Lets the server send the end of an answer without waiting for the client (TCP_NODELAY).

    asyncio does so itself, but not for the socket that Streamlit opens, which does not name its
    protocol: on a connection that stays open, each answer then took 40 ms longer.
    """
    made = AutoHTTPProtocol.connection_made

    def connection_made(self, transport):
        sock = transport.get_extra_info("socket")
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made(self, transport)

    AutoHTTPProtocol.connection_made = connection_made


def open_to_others(hosts: list[str], trusted: Sequence[str]) -> str | None:
    """Why others than the people on this host can reach Graft; None if they cannot.

    Args:
        hosts: of `origin.allowed_hosts`.
        trusted: of `proxies`.
    """
    address = st.get_option("server.address")
    if address not in origin.LOOPBACK:
        return f"it listens on {address or 'all addresses'}"
    if other := [name for name in hosts if name not in origin.LOOPBACK]:
        return f"it answers under the name {other[0]}"
    if trusted:
        return f"it is behind the proxy {trusted[0]}"
    return None


def provider() -> openid.Provider | None:
    """The OpenID provider that is set up; ends the process with one sentence if it is not all."""
    try:
        return openid.configured(signing_in.BACK)
    except GraftError as error:
        raise SystemExit(f"Graft does not start: {error}") from None


def check(home, reason: str | None) -> None:
    """Ends the process with one sentence if others can reach Graft and nobody needs an account.

    Args:
        home: Graft's home.
        reason: of `open_to_others`.
    """
    try:
        if reason and not users.needed(home):
            raise SystemExit(
                f"Graft does not start: {reason}, so others can reach it, and there are no "
                f"accounts; {FIRST}"
            )
    except GraftError as error:
        raise SystemExit(f"Graft does not start: {error}") from None
