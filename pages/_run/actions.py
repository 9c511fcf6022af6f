"""Actions on a run, and the reason for its state; the same on Train and on Runs."""

from pathlib import Path

import streamlit as st

from engine import actions as gate
from engine.errors import GraftError
from engine.host import words
from engine.runs import checkpoint, runs
from pages._run import continue_
from pages._ui import clicks, common, owners, who

PLACE = "run"  # the part of the page that shows errors of these buttons
NEEDS = {
    "cancel": "stop a run",
    "pause": "pause a run",
    "stop": "stop a run",
    "kill": "kill a run",
    "smaller": "restart a run",
    "resume": "resume a run",
}
"""The action, in words of `roles.NEEDED`, of each button."""


def standing(run) -> tuple:
    """The state that the words and buttons depend on; if it changes, the page is drawn again."""
    silent = run.silent_seconds
    return run.status, run.asked, None if silent is None else int(silent // 60)


def buttons(run) -> None:
    """The buttons of a run, in a row; none for a run that was stopped without a model."""
    status = run.status
    if status == "queued":
        _waiting(run)
    elif status in common.ACTIVE:
        _running(run)
    elif status in runs.RESUMABLE:
        _resumable(run)
    elif run.finished:
        continue_.popover(run)


def _button(label, action, run, act, *arguments, **options):
    owners.button(
        label,
        NEEDS[action],
        run.owner,
        key=f"{action}_run",
        on_click=clicks.once,
        args=(PLACE, clicks.drawing(), act, run, *arguments, who.name()),
        **options,
    )


# -- while it waits or runs -----------------------------------------------------------------------


def _waiting(run):
    resumable = has_checkpoint(run)
    _button(
        "Remove from queue" if resumable else "Cancel",
        "cancel",
        run,
        cancel,
        icon=":material/close:",
        help="Removes the run from the queue and keeps its checkpoint; Resume puts it back."
        if resumable
        else "Removes the run from the queue before it starts; nothing is lost.",
    )


def has_checkpoint(run) -> bool:
    """Whether a run has a checkpoint to resume from."""
    return bool(checkpoint.Checkpoints(run.path).listed())


def cancel(run, user: str) -> None:
    """Removes a waiting run from the queue; one with a checkpoint can be resumed later."""
    (gate.pause if has_checkpoint(run) else gate.stop)(run, user)


def _running(run):
    wanted = run.asked
    _button(
        "Pause",
        "pause",
        run,
        gate.pause,
        icon=":material/pause:",
        disabled=wanted is not None,
        help="Frees the device within seconds. Resume continues exactly where it stopped.",
    )
    _button(
        "Stop",
        "stop",
        run,
        gate.stop,
        icon=":material/stop:",
        disabled=wanted is not None,
        help="Ends the run after the current step and keeps the best weights so far as its model.",
    )


def device_words(run) -> str:
    """The device that a run uses or used, as Markdown; "" if it never had one."""
    place = common.plain(run.state.get("device") or "")
    if not place:
        return ""
    known = common.plain((run.environment.get("device") or {}).get("text") or "")
    if place.startswith("gpu:"):
        number = place.removeprefix("gpu:")
        return f"GPU {number}: {known}" if known else f"GPU {number}"
    return known or "CPU"


def stuck(run) -> None:
    """A warning if the run's process does not respond, with what to do; else nothing."""
    silent = run.silent_seconds
    if silent is None:
        return
    st.warning(
        f"The run's process has not responded for {common.about(silent)}: it hangs or was "
        "suspended. If this continues, kill it and resume the run from its last checkpoint.",
        icon=":material/heart_broken:",
    )
    _button(
        "Kill it",
        "kill",
        run,
        gate.kill,
        icon=":material/power_settings_new:",
        help="Kills the run's process. Resume repeats what came after the last checkpoint.",
    )


# -- after it stopped unexpectedly or was paused --------------------------------------------------


def position(run) -> dict | None:
    """The position of a run's newest intact checkpoint; None if there is none.

    Checking for damage reads the whole checkpoint: once, not in every rerun.
    """
    listed = checkpoint.Checkpoints(run.path).listed()
    return _position(str(run.path), listed[-1].name) if listed else None


@st.cache_data(max_entries=64, show_spinner=False)
def _position(path: str, newest: str):
    return checkpoint.Checkpoints(Path(path)).position()


def _where(run, at) -> str:
    """A position in words: "epoch 3 of stage 2 (unfrozen)", as Markdown."""
    stages = run.recipe.stages
    stage = stages[min(at["stage"], len(stages) - 1)]
    epoch = min(at["epoch"] + 1, stage.epochs)
    return f"epoch {epoch} of stage {at['stage'] + 1} ({common.plain(stage.name)})"


def _resumable(run):
    at = position(run)
    smaller = run.state.get("proposed_batch_size")
    if smaller and not successor(run):
        _button(
            f"Continue with batch size {smaller}",
            "smaller",
            run,
            gate.restart_smaller,
            smaller,
            type="primary",
            icon=":material/play_arrow:",
            help="Starts a new run from this checkpoint. Smaller batches need less memory.",
        )
    _button(
        f"Resume from step {words.grouped(at['step'])}" if at else "Resume from the start",
        "resume",
        run,
        gate.resume,
        # It would run out of memory again; and a run has only one primary button.
        type="secondary" if smaller else "primary",
        icon=":material/resume:",
        help=f"Puts it into the queue. It continues in {_where(run, at)}, with the same result as "
        "an uninterrupted run."
        if at
        else "Puts it into the queue. It has not saved a checkpoint, so it starts again.",
    )


def successor(run):
    """The run that continued this one with smaller batches, or None."""
    return _relative(run.state.get("went_on_as"))


def _relative(identity):
    if not identity:
        return None
    try:
        return runs.get_run(common.home(), identity)
    except GraftError:  # deleted since
        return None


def why(run) -> None:
    """Why a run is paused, interrupted or failed, in a box; nothing for others."""
    status, error = run.status, run.error or ""
    text = common.plain(common.sentence(error))
    if status == "paused":
        if not error:
            at = position(run)
            where = f" in {_where(run, at)}, step {words.grouped(at['step'])}" if at else ""
            text = f"Paused{where}: the device is free."
        st.info(text, icon=":material/pause_circle:")
    elif status == "interrupted":
        st.warning(text, icon=":material/power_off:")
    elif status == "failed":
        common.fail(error or "the run failed")


def relatives(run) -> None:
    """Links to the run that this one continues, and to the run that continues it."""
    state = run.state
    for identity, texts in (
        (run.recipe.continue_from or state.get("parent"), "Continues"),
        (state.get("went_on_as"), "Continued with smaller batches as"),
    ):
        other = _relative(identity)
        if other:
            st.page_link(
                "train.py",
                label=f"{texts} {common.run_label(other)}",
                icon=":material/account_tree:",
                query_params={"run": other.id},
            )
        elif identity:
            st.caption(
                f":material/account_tree: {texts} run {common.plain(identity)}, which was deleted."
            )
