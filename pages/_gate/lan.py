"""Starts Graft for the local network: `make app LAN=1`, or `python -m pages._gate.lan 8501`.

It listens on all addresses and answers under this host's own names; nobody outside is asked for
them. Everybody needs an account (`start`).
"""

import os
import socket
import sys

import psutil

from engine import home as homes
from engine.accounts import users
from engine.errors import GraftError


def addresses() -> list[str]:
    """The IPv4 addresses of this host's interfaces that are up, without loopback."""
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    return [
        each.address
        for name, listed in psutil.net_if_addrs().items()
        for each in listed
        if name in up and each.family == socket.AF_INET and not each.address.startswith("127.")
    ]


def command(port: str, host: str, own: list[str]) -> list[str]:
    """The command that starts the app.

    Args:
        port: to listen on.
        host: this host's name; a network with mDNS knows it as NAME.local.
        own: of `addresses`, at least one.
    """
    names = dict.fromkeys([*own, host, f"{host.split('.')[0]}.local"])
    return [
        sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={port}",
        "--server.headless=true", "--server.address=0.0.0.0", f"--browser.serverAddress={own[0]}",
        *(f"--server.allowedHosts={name}" for name in names),
    ]  # fmt: skip


def _check() -> None:
    """Like `start.check`, before addresses are printed that nobody can open, and without pages."""
    try:
        if not users.needed(homes.folder()):
            raise SystemExit(
                "Graft does not start: on a network, everybody needs an account; create the first "
                "one with: python -m engine users add NAME --role admin"
            )
    except GraftError as error:
        raise SystemExit(f"Graft does not start: {error}") from None


def main() -> None:
    """Prints the addresses to open, and becomes the server."""
    port, host, own = sys.argv[1], socket.gethostname().lower(), addresses()
    if not own:
        raise SystemExit("this host is on no network; start Graft with: make app")
    _check()
    for name in [*own, host]:
        print(f"Graft on this network: http://{name}:{port}")
    print(
        "Passwords and photos cross the network unencrypted: where you do not trust it, put a "
        "proxy with HTTPS before Graft (docs/security.md)",
        flush=True,
    )
    arguments = command(port, host, own)
    os.execv(arguments[0], arguments)


if __name__ == "__main__":
    main()
