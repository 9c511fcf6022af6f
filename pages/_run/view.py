"""Views of a run, the same on Train and on Runs: progress, curves, log, results."""

import time

import streamlit as st

from engine.charts import training
from engine.estimate import preflight
from engine.host import words
from engine.predict import evaluation
from engine.runs import remaining, runs
from pages._run import actions, queue
from pages._ui import common
from pages._ui.live_chart import draw, payload

PHASES = {
    "data": "Preparing images",
    "model": "Building the model",
    "features": "Preparing features",
    "training": "Training",
    "evaluation": "Evaluating on the test images",
    "export": "Saving the classifier",
}


def live(run, *below) -> None:
    """Progress, curves and the parts below them.

    Refreshed every few seconds (`EVERY`) while the run is active.

    Args:
        run: the Run.
        below: functions that draw a part of a run, like `notes`.
    """
    before = actions.standing(run)
    status = before[0]

    def body():
        with common.guard():
            now = runs.get_run(common.home(), run.id)
            if actions.standing(now) != before:
                st.rerun()  # the whole page: its words and buttons have changed
            for part in (progress, curves, *below):
                part(now)

    # Another page may resume it, or it may resume automatically.
    slow = 5 if status in runs.RESUMABLE else None
    st.fragment(body, run_every=_every() if status in common.ACTIVE else slow)()


def _every() -> int:
    return EVERY.get(common.device_text()["kind"], EVERY["cpu"])


def progress(run) -> None:
    """The progress of the run: phase, stage, numbers, time left."""
    history = common.history_of(run)
    latest, total = history.latest, history.start.get("total_steps")
    if run.status == "queued":
        queue.place(run)
        if not latest:  # no training yet, so no numbers
            return
    active = run.status in ("starting", "running")
    left = remaining.of(run) if active else None
    if active:
        text = remaining.stopping(run) or _doing(run, history, latest, total)
        st.progress(left.share if left else 0.0, text=common.plain(text))
    by_epoch = history.epochs
    shown = {
        "Accuracy, train": (
            _last(by_epoch["accuracy"], history.batches["accuracy"]),
            words.percent,
        ),
        "Accuracy, validation": (_last(by_epoch["val_accuracy"]), words.percent),
        "Loss, validation": (_last(by_epoch["val_loss"]), lambda v: f"{v:.3f}"),
        "Speed": (latest.get("images_per_second"), lambda v: f"{words.grouped(round(v))} images/s"),
    }
    if active:
        at_most = left and left.at_most
        name = "Time left, at most" if at_most else "Time left"
        shown[name] = (left and left.seconds, words.duration)
    else:
        shown["Duration"] = (run.seconds, words.duration)
    common.metrics(
        {label: "–" if v is None else text(v) for label, (v, text) in shown.items()}, 165
    )


def _doing(run, history, latest, total):
    """What a run in progress does now."""
    if run.status != "running":
        return "Starting the training process"
    phase = history.phase
    name = PHASES.get(phase.get("phase"), phase.get("text", "Starting"))
    if phase.get("phase") == "training" and total and latest and history.stages:
        stage, number = history.stages[-1], len(history.stages)
        stages = history.start.get("stages") or run.recipe.stages
        epochs = run.recipe.stages[min(number, len(run.recipe.stages)) - 1].epochs
        return (
            f"{name}: stage {number} of {len(stages)} ({stage['name']}), epoch "
            f"{latest.get('epoch', 0) + 1} of {epochs}, step {latest.get('step', 0)} of {total}"
        )
    text, whole = phase.get("text") or name, phase.get("total")
    if whole:
        text += f": {words.grouped(phase.get('done') or 0)} of {words.grouped(whole)}"
    return text


def _last(*columns):
    for values in columns:
        for value in reversed(values):
            if value is not None:
                return value
    return None


def curves(run) -> None:
    """The four charts of training."""
    history = common.history_of(run)
    if not history.last_step:
        active = run.status in common.ACTIVE
        st.caption("Charts appear with the first step." if active else "The run did not train.")
        return
    by = st.segmented_control(
        "Horizontal axis",
        ["step", "epoch"],
        default="step",
        required=True,
        key=f"axis_{run.id}",
        format_func=lambda v: v + "s",
        persist_state="session",
        label_visibility="collapsed",
        help="A step is one batch of images; an epoch, all training images once.",
    )
    drawn = _drawn(run, history, by)
    for column, names in zip(st.columns(2), (("accuracy", "rate"), ("loss", "speed")), strict=True):
        with column:
            for name in names:
                draw(drawn[name], f"{name}_{run.id}")


_CURVES = {
    "accuracy": training.accuracy,
    "rate": training.learning_rate,
    "loss": training.loss,
    "speed": training.throughput,
}
EVERY = {"gpu": 1, "cpu": 3}
"""Seconds between two refreshes of a run.

Without a GPU the training needs every core, and each refresh costs the server about 80 ms of one.
"""
DRAWING_SHARE = 0.02
"""Largest share of one core for drawing a run's curves.

Without a GPU the training needs every core. The curves are drawn once for all pages.
"""
LONGEST_PAUSE = 5
"""The most seconds that curves may lag behind."""


def _drawn(run, history, by) -> dict:
    """The curves' payloads, drawn again if there are new numbers and the pause is over."""
    kept = common.kept_of(run)
    with kept["lock"]:
        known = kept.setdefault(("curves", by), {"count": -1, "due": 0.0})
        waiting = run.status in common.ACTIVE and time.monotonic() < known["due"]
        if known["count"] != history.count and not waiting:
            started = time.thread_time()
            known["payloads"] = {n: payload(make(history, by)) for n, make in _CURVES.items()}
            known["count"] = history.count
            pause = (time.thread_time() - started) / DRAWING_SHARE
            known["due"] = time.monotonic() + min(pause, LONGEST_PAUSE)
        return known["payloads"]


def notes(run) -> None:
    """The run's notes, warnings first."""
    history = common.history_of(run)
    for note in sorted(history.notes, key=lambda n: n["event"] != "warning"):
        text = common.plain(note["text"])
        if note["event"] == "warning":
            st.warning(text, icon=":material/warning:")
        else:
            st.caption(f":material/info: {text}")


def outcome(run) -> None:
    """How the run ended, in one box; nothing while it is active."""
    actions.why(run)
    if run.status == "failed":
        st.markdown("The last lines of its log:")
        st.code(run.log_tail(20) or "(empty)", language=None)
    elif run.status == "stopped":
        text = "Stopped early." if run.started else "Removed from the queue before it started."
        if run.finished:
            whose = f"stage {run.kept_stage}" if run.kept_stage else "the run it continues"
            text += f" The best weights of {whose} were kept."
        st.info(common.plain(text), icon=":material/stop_circle:")
    with common.guard():
        if run.finished and run.evaluation:
            test = run.evaluation["test"]
            low, high = test["interval"]
            st.success(
                f"**{words.percent(test['accuracy'])} test accuracy** "
                f"({round(test['accuracy'] * test['n'])} of {words.plural(test['n'], 'image')} "
                f"not used in training; 95% interval {100 * low:.1f} to {100 * high:.1f}%)"
                f"{evaluation.beside_copies(test)}",
                icon=":material/check_circle:",
            )
            if run.decisions:
                st.caption(
                    f":material/edit_note: Trained with your decisions about single images: "
                    f"{common.plain(run.decisions)}."
                )
            if lost := test.get("unreadable"):
                st.caption(
                    f"{words.plural(len(lost), 'test image')} could no longer be read, so not used "
                    f"here, for example {common.plain(lost[0][0])}: {common.plain(lost[0][1])}."
                )


def folded_stages(run) -> None:
    """`stages`, folded."""
    with st.expander("Stages", key=f"stages_{run.id}"):
        stages(run)


def stages(run) -> None:
    """What every stage did: a table."""
    history, rows = common.history_of(run), []
    names = {
        "completed": "all epochs",
        "early_stopping": "stopped early",
        "diverged": "diverged",
        "stopped": "stopped by you",
    }
    for stage in history.stages:
        helped = stage.get("helped")
        rows.append(
            {
                "Stage": stage["name"],
                "How it ran": stage.get("path", "whole network"),
                "Trained": words.grouped(stage.get("trainable_params", 0)),
                "Frozen": words.grouped(stage.get("frozen_params", 0)),
                "Best validation loss": stage.get("best_val_loss"),
                "Best epoch": None if stage.get("best_epoch") is None else stage["best_epoch"] + 1,
                "Ended": names.get(stage.get("reason"), "in progress"),
                "Better than before": "–" if helped is None else "yes" if helped else "no, undone",
                "Kept": "✓" if stage["name"] == run.kept_stage else "",
            }
        )
    if rows:
        st.dataframe(rows, hide_index=True)
        st.caption(
            "Trained and Frozen count the parameters of the network that a stage changed or kept. "
            "The model keeps the stage with the lowest validation loss."
        )
        for stage in history.stages:
            if stage.get("path") == "cached features":
                st.caption(common.plain(f"Stage {stage['name']}: {_cached_words(stage)}"))
    else:
        st.caption("No stage has started.")
    predicted(run)


def predicted(run) -> None:
    """The preflight's prediction beside the actual figures.

    Nothing is shown before the run ends, or if there was no preflight.
    """
    rows = [] if run.status in common.ACTIVE else preflight.compare(run)
    if not rows:
        return
    st.markdown("**Predicted and actual**")
    names = ("Stage", "Epochs", "Time", "Images per second", "Peak memory")
    cells = preflight.comparison(rows)[1]
    st.dataframe([dict(zip(names, row, strict=True)) for row in cells], hide_index=True)
    st.caption(
        "Each cell: predicted by the preflight / actual. A stage that stopped early took less "
        "time; other work on this host makes both uncertain."
    )


def _cached_words(stage) -> str:
    """How a stage used cached features, and how little they differ from the whole network."""
    kind = "" if stage["exact"] else f" of {stage['views']} fixed random views (an approximation)"
    computed = f"{words.grouped(stage['computed'])} features{kind} computed"
    if stage["computed"]:
        computed += f" in {words.duration(stage['seconds'])} with {stage['runtime']}"
    return (
        f"{computed}, {words.grouped(stage['known'])} read from the cache; the probabilities of a "
        f"probe batch differ by at most {stage['difference']:.1g} from the whole network's."
    )


def log(run, lines=40) -> None:
    """The end of the run's log, folded."""
    with st.expander("Log", key=f"log_{run.id}", on_change="rerun") as folded:
        if folded.open:
            st.code(run.log_tail(lines) or "(empty)", language=None)
