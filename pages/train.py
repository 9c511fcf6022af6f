"""Train: start a run, watch it, pause it, stop it, resume it."""

import streamlit as st

from engine import actions as gate
from engine.jobs import jobs
from pages._run import actions, queue, view
from pages._ui import clicks, common, draft, owners, who


def show() -> None:
    """Draws the page: the run of the address, one in progress, or what is about to start."""
    common.header(
        "Train",
        "Start the recipe and watch it train. You can close this page: training continues, "
        "and this address shows the run again.",
    )
    run = common.chosen_run()
    if run is None and not st.session_state.get("new_run"):
        running = jobs.active(common.home())
        if running:
            run = running[0]
            common.choose_run(run)
    if run is None:
        _ready()
    else:
        _run(run)


def _ready():
    if not owners.allowed("start a run"):
        return
    recipe = draft.recipe()
    if recipe is None:
        for path, text in draft.problems().items():
            text = f"{path}: {text}" if path else text
            st.error(common.plain(text), icon=":material/error:")
        st.page_link("configure.py", label="Fix the recipe in Configure", icon=":material/tune:")
        return
    with st.container(border=True):
        common.metrics(
            {
                "Dataset": common.plain(recipe.dataset.title),
                "Backbone": common.plain(recipe.backbone.title),
                "Image size": f"{recipe.image_size} px",
                "Epochs": _epochs(recipe.stages),
            },
            200,
        )
        for place, stage in enumerate(recipe.stages, 1):
            name = common.plain(stage.name)
            st.markdown(f"**{place}. {name}**: {common.stage_words(stage)}")
    waits = _in_progress()
    # In a callback, which a double click or another rerun does not interrupt.
    st.button(
        "Add to the queue" if waits else "Start training",
        type="primary",
        key="start",
        icon=":material/playlist_add:" if waits else ":material/play_arrow:",
        on_click=clicks.once,
        args=("start", clicks.drawing(), gate.start, recipe, common.home(), who.name()),
    )
    common.show_error("start")


def _epochs(stages) -> str:
    """How many epochs all stages take together."""
    most = "up to " if any(stage.early_stopping for stage in stages) else ""
    return f"{most}{sum(stage.epochs for stage in stages)}"


def _in_progress() -> bool:
    """Says what is in progress and the place of a run added now; returns whether it would wait.

    Draws the page again when that changes.
    """
    before = queue.outlook()

    def body():
        with common.guard():
            now = queue.outlook()
            if (now is None) != (before is None):
                st.rerun()
            running = [r for r in jobs.active(common.home()) if r.status != "queued"]
            names = ", ".join(f"**{common.plain(r.recipe.name)}**" for r in running[:3])
            if now:
                ahead = (
                    f"{names} {'is' if len(running) == 1 else 'are'} in progress. " if names else ""
                )
                st.info(
                    f"{ahead}Your run will be {_place(now['place'])} in the queue; it starts "
                    f"{queue.starts(now['starts_in'])}.",
                    icon=":material/schedule:",
                )
            elif running:
                st.info(
                    f"{names} in progress: a run started now shares this host, so all take longer.",
                    icon=":material/hourglass_top:",
                )

    st.fragment(body, run_every=5 if before or jobs.active(common.home()) else None)()
    return before is not None


def _place(place) -> str:
    return "next" if place == 1 else f"number {place}"


def _run(run):
    st.subheader(common.run_label(run), anchor=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(common.STATUS[run.shown_status])
        if owner := owners.of(run):
            st.caption(owner, width="content")
        words = actions.device_words(run)
        if words:
            st.caption(
                f":material/memory: {words}",
                help="The device that the run uses.",
                width="content",
            )
        if run.finished and st.button(
            "Test this model",
            type="primary",
            key="test_model",
            icon=":material/center_focus_strong:",
        ):
            st.switch_page("test.py", query_params={"run": run.id})
        actions.buttons(run)
        if who.may("start a run") and st.button(
            "New run",
            key="again",
            # A run that was stopped without a model has no other action.
            type="primary" if run.status == "stopped" and not run.finished else "secondary",
            icon=":material/add:",
            help="Shows the current recipe from Configure, ready to start or to queue.",
        ):
            common.choose_run(None)
            st.session_state["new_run"] = True
            st.rerun()
    common.show_error(actions.PLACE)
    actions.stuck(run)
    actions.relatives(run)
    if run.status not in common.ACTIVE:
        view.outcome(run)
    view.live(run, view.notes, view.folded_stages, view.log)


show()
