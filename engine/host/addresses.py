"""Names and addresses of hosts, as requests carry them."""

from __future__ import annotations

import ipaddress
import re

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""What this host calls itself."""


def bare(address: str) -> str:
    """An address in its usual form: ::ffff:10.0.0.1 is 10.0.0.1; a name stays."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(getattr(found, "ipv4_mapped", None) or found)


def name_of(host: str | None) -> str | None:
    """The name or address in a Host header, without its port; None if it is not one.

    Args:
        host: such as "graft.example:8600" or "[::1]:8600".
    """
    found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^\[\]:@/\s]+)(:\d+)?", (host or "").lower())
    return bare(found[1].strip("[]").rstrip(".")) if found else None
