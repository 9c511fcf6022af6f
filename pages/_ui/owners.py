"""What a user may do here, and whose things a list shows."""

from collections.abc import Iterable
from typing import Any

import streamlit as st

from engine.accounts import roles
from pages._ui import common, who

MINE, EVERYONE = "mine", "everyone"
LABELS = {MINE: "Mine", EVERYONE: "Everyone's"}


def why_not(action: str, owner: str | None = None) -> str | None:
    """Why the user may not do an action, as a tooltip; None if they may.

    Args:
        action: a key of `roles.NEEDED`.
        owner: of what it is done to.
    """
    refused = who.why_not(action, owner)
    return refused and common.plain(common.sentence(refused))


def allowed(action: str) -> bool:
    """Whether the user has the role for a page; if not, one sentence says so."""
    refused = why_not(action)
    if refused:
        st.info(
            f"{refused} An admin can change your role. You can try models on **Test**.",
            icon=":material/lock:",
        )
    return refused is None


def button(label: str, action: str, owner: str | None = None, **options: Any) -> bool:
    """`st.button`, disabled with the reason as its tooltip if the user may not do the action."""
    if refused := why_not(action, owner):
        options |= {"disabled": True, "help": refused}
    return st.button(label, **options)


def whose() -> str:
    """The filter of lists, MINE or EVERYONE, which the address keeps; EVERYONE without accounts.

    Trainers see their own things first; viewers have no runs, and admins look after all.
    """
    if not who.accounts():
        return EVERYONE
    usual = MINE if who.role() == roles.TRAINER else EVERYONE
    named = st.query_params.get("whose")
    if named in LABELS:
        st.session_state["whose"] = named
    st.session_state.setdefault("whose", usual)
    chosen = st.segmented_control(
        "Whose",
        list(LABELS),
        required=True,
        format_func=LABELS.get,
        key="whose",
        on_change=_remember,
        persist_state="session",
        label_visibility="collapsed",
    )
    if chosen != usual:
        st.query_params["whose"] = chosen
    else:
        st.query_params.pop("whose", None)
    return chosen


def kept() -> str:
    """What `whose`, drawn elsewhere on the page, was set to."""
    return st.session_state.get("whose", EVERYONE) if who.accounts() else EVERYONE


def _remember():
    # Before the address is read in this rerun: the click is newer.
    st.query_params["whose"] = st.session_state["whose"]


def chosen(things: Iterable[Any], kept: str, also: Any = None) -> list:
    """The things, such as runs, that a filter lets through.

    Args:
        things: each with an `owner`.
        kept: of `whose`.
        also: one that is always among them if it is one of the things, such as the run that the
            address names.
    """
    own = who.name()
    return [each for each in things if kept == EVERYONE or each.owner == own or each == also]


def of(thing: Any) -> str:
    """ "of ada", as Markdown; "" without accounts."""
    return f"of {common.plain(thing.owner)}" if who.accounts() else ""
