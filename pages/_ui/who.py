"""Who looks at a page, and what they may do."""

from functools import lru_cache

import streamlit as st

from engine import home as homes
from engine.accounts import roles, store, users
from engine.accounts.store import AccountError

HEADERS = {"x-graft-user": "name"}
"""The header in which the gate names the user, and its key in st.user. The gate removes copies that
a browser sends."""


def name() -> str:
    """The user's name, or "local" in a home without accounts.

    Raises:
        AccountError: if there are accounts and the page was opened without one.
    """
    if not accounts():
        return roles.LOCAL
    found = st.user.get("name")
    if not found:  # the accounts are newer than this page's connection
        raise AccountError("this page was opened before Graft had accounts; reload it to sign in")
    return str(found)


def of_request(request) -> str:
    """Like `name`, for a request of Starlette. Raises AccountError likewise."""
    if not accounts():
        return roles.LOCAL
    found = request.headers.get(next(iter(HEADERS)))
    if not found:
        raise AccountError("sign in first")
    return str(found)


def accounts() -> bool:
    """Whether this home has accounts: without them, nothing says who owns what."""
    home = homes.home()
    # That there are none is not taken from memory: everybody would be an admin.
    return bool(_roles(home, store.stamp(home))) or users.needed(home)


@lru_cache(maxsize=8)
def _roles(home, stamp) -> dict[str, str]:
    """{user: role}, read once for each state of the file: a page asks many times."""
    return {user.name: user.role for user in users.listed(home)}


def role() -> str:
    """The user's role, to draw the page; `engine.actions` reads it again for each action.

    Raises:
        AccountError: if the user has no account (any more).
    """
    home, user = homes.home(), name()
    return _roles(home, store.stamp(home)).get(user) or roles.of(home, user)


def why_not(action: str, owner: str | None = None) -> str | None:
    """Why the user may not do an action, one sentence; None if they may.

    Args:
        action: a key of `roles.NEEDED`.
        owner: of what it is done to.
    """
    try:
        return roles.refusal(role(), name(), action, owner)
    except AccountError as error:
        return str(error)


def may(action: str, owner: str | None = None) -> bool:
    """Whether the user may do an action of `roles.NEEDED`, to something of an owner."""
    return why_not(action, owner) is None
