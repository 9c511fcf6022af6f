"""Who looks at a page, and what they may do."""

import streamlit as st

from engine import home as homes
from engine.accounts import roles, users
from engine.accounts.store import AccountError

HEADERS = {"x-graft-user": "name"}
"""The header in which the gate names the user, and its key in st.user. The gate removes copies that
a browser sends."""


def name() -> str:
    """The user's name, or "local" in a home without accounts.

    Raises:
        AccountError: if there are accounts and the page was opened without one.
    """
    if not users.needed(homes.home()):
        return roles.LOCAL
    found = st.user.get("name")
    if not found:  # the accounts are newer than this page's connection
        raise AccountError("this page was opened before Graft had accounts; reload it to sign in")
    return str(found)


def of_request(request) -> str:
    """Like `name`, for a request of Starlette. Raises AccountError likewise."""
    if not users.needed(homes.home()):
        return roles.LOCAL
    found = request.headers.get(next(iter(HEADERS)))
    if not found:
        raise AccountError("sign in first")
    return str(found)


def may(action: str, owner: str | None = None) -> bool:
    """Whether the user may do an action of `roles.NEEDED`, to something of an owner."""
    return roles.may(homes.home(), name(), action, owner)
