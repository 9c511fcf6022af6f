"""The queue: the place of a run, what starts next, and the settings of the host."""

import time
from pathlib import Path

import streamlit as st

from engine import actions as gate
from engine import roots
from engine.errors import GraftError
from engine.estimate.outlook import expected_seconds
from engine.host import device, settings
from engine.jobs import jobs
from engine.runs import queue, remaining, runs
from pages._run import actions
from pages._ui import clicks, common, owners, who

PLACE = "queue"  # the part of the page that shows errors of these buttons
SHOWN = 20
"""Waiting runs shown with buttons; more would slow down every refresh."""


def waiting() -> list[dict]:
    """`engine.jobs.jobs.waiting`, read again when the queue changes, else from time to time.

    To estimate a start it may read the recipes of all runs, which takes seconds for hundreds.
    """
    home = common.home()
    working = tuple(slot["run"] for slot in queue.slots(home))
    when, entries = _waiting(str(home), tuple(queue.waiting(home)), working)
    passed = time.time() - when
    return [
        entry | {"starts_in": seconds and max(0.0, seconds - passed)}
        for entry in entries
        for seconds in [entry["starts_in"]]
    ]


@st.cache_data(ttl=20, max_entries=16, show_spinner=False)
def _waiting(home: str, order: tuple, working: tuple) -> tuple[float, list[dict]]:
    return time.time(), jobs.waiting(Path(home))


@st.cache_data(ttl=60, max_entries=64, show_spinner=False)
def _takes(home: str, run_id: str) -> float | None:
    """`engine.estimate.outlook.expected_seconds`, cached because it reads the cache of features."""
    return expected_seconds(runs.get_run(Path(home), run_id))


def starts(seconds) -> str:
    """When a run is expected to start, to follow "starts" or stand alone in a cell."""
    if seconds is None:
        return "after the runs before it"
    return "in a moment" if seconds < 5 else f"in {common.about(seconds)}"


# -- Train: before the start, and while a run waits -----------------------------------------------


def outlook() -> dict | None:
    """What a run added now would wait for; None if it would start immediately.

    Returns a dict of place and starts_in (seconds, or None if unknown).
    """
    home = common.home()
    ahead = waiting()
    places = settings.get(home)["runs_per_device"] * len(_devices())
    running = [run for run in jobs.active(home) if run.status != "queued"]
    if not ahead and len(running) < places:
        return None
    if ahead:
        last = ahead[-1]
        takes = _takes(str(home), last["run"].id)
        unknown = last["starts_in"] is None or takes is None
        left = None if unknown else last["starts_in"] + takes
    else:
        ends = [remaining.of(run) for run in running]
        left = None if None in ends else min(end.seconds for end in ends)
    return {"place": len(ahead) + 1, "starts_in": left}


@st.cache_data(ttl=600, show_spinner=False)
def _devices() -> list[str]:
    return device.devices()


def place(run) -> None:
    """The place of a waiting run in the queue, and when it is expected to start."""
    entries = waiting()
    mine = next((entry for entry in entries if entry["run"] == run), None)
    if mine is None:  # it is just leaving the queue
        st.info("**The run is next.** It starts now.", icon=":material/schedule:")
        return
    st.info(
        f"**Place {mine['place']} of {len(entries)} in the queue.** It starts "
        f"{starts(mine['starts_in'])}. You can close this page.",
        icon=":material/schedule:",
    )


# -- Runs -----------------------------------------------------------------------------------------


def section() -> None:
    """The waiting runs, with buttons that change their order; nothing if none waits."""
    if not queue.waiting(common.home()):
        common.show_error(PLACE)
        return
    before = _standing()

    def body():
        with common.guard():
            if _standing() != before:
                st.rerun()  # the table of runs shows their statuses too
            _rows()

    st.subheader("Queue", anchor=False)
    st.fragment(body, run_every=2)()


def _standing():
    """The runs that wait, in order, and the runs in progress."""
    home = common.home()
    return queue.waiting(home), [slot["run"] for slot in queue.slots(home)]


def _rows():
    common.show_error(PLACE)
    entries = waiting()
    for entry in entries[:SHOWN]:
        _row(entry["run"], entry["place"], entry["starts_in"], len(entries))
    if len(entries) > SHOWN:
        st.caption(f"{len(entries) - SHOWN} more: `python -m engine queue` lists all.")


def _row(run, number, seconds, count):
    with st.container(horizontal=True, vertical_alignment="center", wrap=False):
        texts = f"**{number}.** {_name(run)}  \n:gray[:small[starts {starts(seconds)}]]"
        st.markdown(texts, width="stretch")
        with st.container(horizontal=True, width="content", gap="xsmall", wrap=False):
            cancelled, moved = owners.why_not("stop a run", run.owner), owners.why_not("move a run")
            for action, icon, texts, disabled, act, arguments in (
                ("up", "arrow_upward", "Earlier", number == 1, shift, (-1,)),
                ("down", "arrow_downward", "Later", number == count, shift, (1,)),
                ("first", "vertical_align_top", "Next to start", number == 1, gate.move, (1,)),
                ("cancel", "close", "Remove from queue", False, actions.cancel, ()),
            ):
                refused = cancelled if action == "cancel" else moved
                st.button(
                    "",
                    icon=f":material/{icon}:",
                    key=f"{action}_{run.id}",
                    help=refused or f"{texts} (place {number})",
                    disabled=disabled or refused is not None,
                    type="tertiary",
                    on_click=clicks.once,
                    args=(PLACE, clicks.drawing(), act, run, *arguments, who.name()),
                )


def _name(run) -> str:
    try:
        return common.run_label(run)
    except GraftError:  # its recipe is damaged, which it will report when it starts
        return common.plain(run.id)


def shift(run, by: int, user: str) -> None:
    """Moves a waiting run by a number of places from its current place, read now.

    Another page may have moved it since this one was drawn.
    """
    order = queue.waiting(common.home())
    now = order.index(run.id) + 1 if run.id in order else 1
    gate.move(run, max(1, now + by), user)


# -- settings of the host -------------------------------------------------------------------------

LABELS = {
    "runs_per_device": "Runs per device (runs_per_device)",
    "auto_resume": "Resume interrupted runs automatically (auto_resume)",
    "memory_limit_percent": "Memory that a run may take, in % (memory_limit_percent)",
    "min_free_mb": "Disk space to keep free, in MiB (min_free_mb)",
}


def host_settings() -> None:
    """A folded list of the settings for all runs of this host."""
    with st.expander("Host settings", key="host_settings"), common.guard():
        st.caption("They apply to all runs on this host, whoever starts them.")
        common.show_error("settings")
        _allowed_roots()
        for name, value in settings.get(common.home()).items():
            if name not in LABELS:  # what pages may read is not decided on a page
                continue
            # The key contains the value: if another page changes it, the widget shows that.
            key = f"setting_{name}@{value}"
            options = {
                "key": key, "help": settings.HELP[name],
                "on_change": _set, "args": (name, key, value),
            }  # fmt: skip
            if isinstance(value, bool):
                st.toggle(LABELS[name], value, **options)
            else:
                st.number_input(LABELS[name], value=value, step=1, width=420, **options)


def _allowed_roots():
    """The folders that pages may read, if they are restricted."""
    limits = roots.recorded()
    if limits:
        below = ", ".join(map(common.plain, limits["below"])) or "none"
        st.caption(
            f"Folders that pages may read datasets and weights from: {below}. "
            "`python -m engine settings` changes them (allowed_roots)."
        )


def _set(name, key, before):
    new = st.session_state[key]
    if new is None:  # the field was emptied
        new = before
    st.session_state[key] = before  # a refused value does not stay in the field
    clicks.do("settings", _change, name, new, who.name())


def _change(name, new, user):
    gate.change_settings(common.home(), user, **{name: new})
