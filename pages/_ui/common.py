"""What all pages share: the home, errors as sentences, the rail, numbers with units."""

import contextlib
import html
import logging
import re
import time
from collections import Counter

import streamlit as st
from PIL import Image, ImageDraw
from streamlit.runtime.scriptrunner import get_script_run_ctx

from engine import home as homes
from engine.accounts import roles
from engine.errors import DiskError, GraftError, ReadOnlyHome
from engine.host import device, words
from engine.jobs import jobs
from engine.recipe import preset_names
from engine.runs import remaining, runs
from pages._gate.uploads import UPLOADS
from pages._ui import clicks, who

STATUS = {
    "queued": ":material/schedule: Waiting",
    "starting": ":material/hourglass_top: Starting",
    "running": ":material/play_circle: Running",
    "stopping": ":material/pending: Stopping",
    "pausing": ":material/pending: Pausing",
    "paused": ":material/pause_circle: Paused",
    "interrupted": ":material/power_off: Interrupted",
    "finished": ":material/check_circle: Finished",
    "stopped": ":material/stop_circle: Stopped",
    "failed": ":material/error: Failed",
}
ACTIVE = runs.ACTIVE


def home():
    """Graft's home folder."""
    return homes.home()


@contextlib.contextmanager
def guard():
    """Turns a GraftError, or an error of the disk, into one sentence on the page."""
    try:
        yield
    except GraftError as error:
        fail(error)
    except OSError as error:
        if (known := DiskError.of(error)) is None:
            raise
        fail(known)


def fail(error) -> None:
    """Shows an error as one sentence."""
    st.error(plain(sentence(error)), icon=":material/error:")


def read_only_notice() -> None:
    """Says so if the home is read-only: what would write shows an error then."""
    if homes.read_only(home()):
        st.info(plain(sentence(ReadOnlyHome(home()))), icon=":material/lock:")


def explain(error: Exception) -> bool:
    """Shows one sentence for an error that a page did not handle; the traceback goes to the log."""
    logging.getLogger("graft").error("a page failed", exc_info=error)
    if known := error if isinstance(error, GraftError) else DiskError.of(error):
        fail(known)
    else:
        st.error(
            f"This page had an unexpected error ({type(error).__name__}); the server's log has the "
            "details. Nothing you trained is lost. Reload the page to continue.",
            icon=":material/error:",
        )
    return True


def show_error(place: str) -> None:
    """Shows what went wrong with the last click on a part of the page; see `clicks.once`."""
    error = clicks.error_of(place)
    if error:
        fail(error)


def header(title: str, text: str) -> None:
    """A page's title and one sentence about what it is for."""
    st.title(title, anchor=False)
    st.caption(text)


def empty(text: str, page: str, label: str) -> None:
    """An empty state: what is missing, and a link to where it comes from."""
    with st.container(border=True):
        st.markdown(text)
        st.page_link(page, label=label, icon=":material/arrow_forward:")


# -- the chosen run -----------------------------------------------------------------------------


def chosen_run():
    """The run that a click has just created, that the address names (`?run=`), or that was chosen
    earlier in this session; None if there is none.

    The address comes before the earlier choice, so a link shows what its sender saw.
    """
    made = clicks.to_open()
    wanted = made or st.query_params.get("run") or st.session_state.get("run")
    if not wanted:
        return None
    try:
        run = runs.get_run(home(), wanted)
        run.recipe  # noqa: B018  pages rely on the recipe being readable
    except GraftError as error:
        choose_run(None)
        clicks.opened()
        fail(error)
        return None
    choose_run(run)
    if made:
        st.session_state.pop("new_run", None)
        clicks.opened()
    return run


def choose_run(run) -> None:
    """Remembers a run for the other pages and puts it into the address; None forgets it."""
    st.session_state["run"] = run.id if run else None
    if not run:
        st.query_params.pop("run", None)
    elif st.query_params.get("run") != run.id:
        st.query_params["run"] = run.id


def run_text(run) -> str:
    """A run in one line: "tf_flowers · MobileNetV2 0.35 · 24 Nov 10:04".

    For places that do not read Markdown, like the options of a selectbox. If somebody gave the
    run a name, the name comes first.
    """
    recipe, when = run.recipe, time.strftime("%d %b %H:%M", time.localtime(run.created))
    own = [] if recipe.name in preset_names() else [recipe.name]
    return words.printable(" · ".join([*own, recipe.dataset.title, recipe.backbone.title, when]))


def run_label(run) -> str:
    """`run_text` as Markdown, for all other places."""
    return plain(run_text(run))


def distinct(labels: dict[str, str]) -> dict[str, str]:
    """{id: label}; equal labels get their ids, since Streamlit finds an option by its label."""
    counts = Counter(labels.values())
    return {i: f"{text} · {i}" if counts[text] > 1 else text for i, text in labels.items()}


# -- the rail -----------------------------------------------------------------------------------


@st.cache_data(ttl=600, show_spinner=False)
def device_text() -> dict:
    """`engine.host.device.describe()`, cached for ten minutes."""
    return device.describe()


RUNNING_SHOWN = 3
"""The largest number of runs in progress that the rail shows."""

LOGO = """<svg xmlns="http://www.w3.org/2000/svg" width="150" height="40" viewBox="0 0 150 40">
<g fill="none" stroke="#2a8f6d" stroke-width="3.4" stroke-linecap="round">
<path d="M14 36V21"/><path d="M14 21L24 9" /><path d="M14 21C14 13 9 9 4 8"/></g>
<circle cx="26" cy="7" r="4" fill="#2a8f6d"/><circle cx="14" cy="21" r="3.4" fill="#e0822d"/>
<text x="40" y="30" font-family="Helvetica, Arial, DejaVu Sans, sans-serif" font-size="25"
 font-weight="650" fill="#2a8f6d">Graft</text></svg>"""
"""A shoot grafted onto a stem."""


@st.cache_resource(show_spinner=False)
def mark() -> Image.Image:
    """The logo for the browser's tab; drawn here, as a Material icon would need the internet."""
    image = Image.new("RGBA", (64, 64))
    pen = ImageDraw.Draw(image)
    for line in ([(28, 60), (28, 36)], [(28, 36), (46, 14)], [(28, 36), (10, 16)]):
        pen.line(line, fill="#2a8f6d", width=7)
    pen.ellipse((40, 4, 56, 20), fill="#2a8f6d")
    pen.ellipse((22, 30, 34, 42), fill="#e0822d")
    return image


def rail(heartbeat, soon: bool) -> None:
    """The device and the runs in progress, below the pages in the sidebar.

    Args:
        heartbeat: a function to call each time they are drawn.
        soon: whether to call it soon.
    """
    st.logo(LOGO, size="large")
    about = device_text()
    icon = ":material/developer_board:" if about["kind"] == "gpu" else ":material/memory:"
    st.caption(f"{icon} {about['text']}", help="The device that runs on this host use.")
    if refused := UPLOADS.notice(get_script_run_ctx().session_id):
        st.toast(plain(sentence(refused)), icon=":material/upload:", duration="infinite")
    with guard():
        _account()
    with guard():
        # This also starts the supervisor again if it was killed or the host was restarted.
        busy = jobs.active(home())
        # Often while something runs; rarely otherwise, to notice a run started in another tab.
        st.fragment(_live_line, run_every=2 if busy or soon else 10)(heartbeat)


def _account() -> None:
    """Who is signed in, with the way out; nothing in a home without accounts."""
    name = who.name()
    if name != roles.LOCAL:
        st.html(
            '<form method="post" action="sign-out" class="account">'
            f"<span>{html.escape(name)} · {who.role()}</span> <button>Sign out</button></form>"
            f"<style>{_ACCOUNT}</style>"
        )


_ACCOUNT = """.account { display: flex; align-items: baseline; gap: .6em; margin: 0 }
.account { font-size: .875rem }
.account span { opacity: .75; overflow-wrap: anywhere }
.account button { font: inherit; color: inherit; background: none; border: 0; padding: 0;
  min-height: 24px; text-decoration: underline; cursor: pointer; white-space: nowrap }"""


def _live_line(heartbeat) -> None:
    heartbeat()
    with guard():
        active = [(run, run.status) for run in jobs.active(home())]
        running = [run for run, status in active if status != "queued"]
        waiting = sum(status == "queued" for _, status in active)
        for run in running[:RUNNING_SHOWN]:
            line = f"{STATUS[run.shown_status]}: **{plain(run.recipe.name)}**"
            left = remaining.of(run)
            facts = f"  \n{words.percent(left.share, 0)} · {left.text}" if left else ""
            st.markdown(line + facts)
        if len(running) > RUNNING_SHOWN:
            st.caption(f"and {len(running) - RUNNING_SHOWN} more running")
        if waiting:
            st.caption(
                f":material/schedule: {waiting} waiting", help="Runs in the queue: see **Runs**."
            )


@st.cache_resource(max_entries=16, show_spinner=False)
def _collected(path: str, run_id: str) -> dict:
    import threading

    from engine.runs.history import History

    return {"history": History(), "offset": 0, "lock": threading.Lock()}


def kept_of(run) -> dict:
    """What the server keeps of a run for all sessions: history, lock, drawn curves."""
    return _collected(str(run.path), run.id)


def history_of(run):
    """A run's History, kept on the server; only new events are read."""
    kept = kept_of(run)
    with kept["lock"]:
        events, kept["offset"] = run.events(kept["offset"])
        kept["history"].add(events)
    return kept["history"]


# -- words and numbers --------------------------------------------------------------------------


def stage_words(stage) -> str:
    """A stage in everyday words, with the technical terms beside them."""
    what = {"none": "train only the new head (frozen)", "all": "train the whole network (unfrozen)"}
    rest = f"train the head and the backbone's layers, {plain(stage.trainable)}"
    part = what.get(stage.trainable, rest)
    epochs = words.plural(stage.epochs, "epoch")
    if stage.early_stopping:
        epochs = f"up to {epochs}"
    return f"{part}, {epochs} with {stage.optimizer} at {stage.learning_rate:g} ({stage.schedule})"


# Streamlit creates icons, links and arrows after it has read Markdown and removed backslashes.
_MADE_LATER = re.compile(
    r"(?<=:)(?=//|material/|streamlit:)|(?<=@)(?=\w)|(?<=www)(?=\.)"
    r"|(?<=(?<!\S)[-<>~])(?=(?:[-=>]|->)(?!\S))",
    re.IGNORECASE,
)
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!$:|~<>&-]|(?<=\d)\.(?=\s|$))")


def plain(text: str) -> str:
    """Escapes text written by people, like the name of a run, a stage, a class or a file.

    Streamlit's Markdown then shows it unchanged, and it cannot load a picture from another host.
    All text of this kind passes here before it becomes a label, heading, caption, message or
    tooltip. Cells of tables, options of selectboxes and values of fields are not Markdown:
    `engine.host.words.printable` is enough for them.
    """
    # Also for bytes that are not UTF-8, as in names of files, which Streamlit cannot send.
    sendable = words.printable(" ".join(text.split()))
    joined = _MADE_LATER.sub("\u2060", sendable)  # an invisible word joiner
    return _MARKUP.sub(r"\\\1", joined)


def sentence(text) -> str:
    """An error or a part of a sentence, with a capital letter and a full stop."""
    text = str(text).strip().rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def about(seconds) -> str:
    """A rough duration: "less than a minute", "about 5 min", "about 1 h 10 min"."""
    if seconds < 60:
        return "less than a minute"
    if seconds < 3600:
        return f"about {round(seconds / 60)} min"
    minutes = 5 * round(seconds / 300)
    return f"about {minutes // 60} h {minutes % 60:02d} min"


def metrics(values: dict, width: int = 150) -> None:
    """Large numbers side by side, all of one width so that they do not move; they wrap."""
    with st.container(horizontal=True):
        for label, value in values.items():
            st.metric(label, value, width=width)


def all_runs() -> tuple[list, list]:
    """(runs, newest first; [(name, sentence)] for each run whose recipe cannot be read)."""
    return runs.readable_runs(home())


def finished_runs() -> list:
    """Runs with a model to use, newest first."""
    return [run for run in all_runs()[0] if run.finished]
