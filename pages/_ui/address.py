"""The draft in the browser's address: read from it, written to it, and kept over a refresh."""

import copy

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.web.server.starlette.starlette_app_utils import decode_xsrf_token_string

from engine import home as homes
from engine.errors import RecipeError
from engine.estimate import proposal
from engine.recipe import Recipe, apply_sets, load_preset, preset_names
from pages._ui import common, draft

_tabs = {}
"""(browser, draft) of each session of this server; the oldest are forgotten."""
REMEMBERED = 1_000


def load() -> None:
    """Loads the draft that the address names, if the tab was just opened, or went back or forward.

    A refreshed tab continues with its draft, even if the browser did not know the address of the
    last change yet.
    """
    session, given = get_script_run_ctx().session_id, _given()
    wanted = went_back()
    if "draft" not in st.session_state:
        before = _before_refresh(given)
        wanted = before is None
        st.session_state["draft"] = before or draft.current()
    elif session not in _tabs:  # another tab continued with it while this one was disconnected
        st.session_state["draft"] = copy.deepcopy(draft.current())
    now = draft.current()
    _tabs[session] = (_browser(), now)
    while len(_tabs) > REMEMBERED:
        del _tabs[next(iter(_tabs))]
    now.reported = given
    if not wanted or given in ([None], draft.address(now)):
        return
    named, *sets = given
    try:
        named = named or _preset_of(sets)
        # Through Recipe, so that a link with a bad value says so and leaves the draft alone.
        new = Recipe.from_dict(apply_sets(load_preset(named).to_dict(), sets)).to_dict()
        draft.replace(new, named, follow=False)
    except RecipeError as error:
        text = common.plain(f"The link's recipe cannot be used: {error}.")
        st.warning(text, icon=":material/link_off:")


def hear() -> None:
    """Records the address that the browser shows; for reruns that draw only a part of the page."""
    draft.current().reported = _given()


def unheard() -> bool:
    """Whether the browser has not reported the address of the draft yet."""
    now = draft.current()
    return now.reported != draft.address(now)


def keep() -> None:
    """Writes the draft's differences into the address; the default recipe leaves it empty."""
    named, *sets = wanted = draft.address(draft.current())
    if _given() != wanted:
        rest = {k: v for k, v in st.query_params.items() if k not in ("preset", "set")}
        new = rest | ({"preset": named} if named else {}) | ({"set": sets} if sets else {})
        st.query_params.from_dict(new)


def went_back() -> bool:
    """Whether the browser's Back or Forward asked for this run."""
    return get_script_run_ctx().is_history_navigation


def _given() -> list:
    """The preset and settings that the browser's address names."""
    return [st.query_params.get("preset"), *st.query_params.get_all("set")]


def _browser() -> bytes | None:
    """What all tabs of one browser have in common; None for a browser without cookies."""
    return decode_xsrf_token_string(st.context.cookies.get("_streamlit_xsrf", ""))[0]


def _before_refresh(given: list) -> draft.Draft | None:
    """The draft of the tab that a refresh has ended; None for a tab opened with a link.

    The tab was open in the same browser, is no longer connected, and showed the same address.
    """
    browser = _browser()
    for session, (other, found) in reversed(list(_tabs.items())):  # other sessions add to it
        if not browser or other != browser or runtime.get_instance().is_active_session(session):
            continue
        if given in (found.reported, draft.address(found)):
            del _tabs[session]
            return found
    return None


def _preset_of(sets) -> str:
    """The preset of a link that names none: the one that fits its dataset."""
    plain = load_preset(preset_names()[0]).to_dict()
    given = apply_sets(plain, sets)["dataset"]
    if not isinstance(given, dict):  # reading the link says what is wrong with it
        return preset_names()[0]
    return proposal.preset_for(plain["dataset"] | given, homes.home())
