"""Train: start a run, watch it, stop it."""

import streamlit as st

from engine import jobs
from pages import _common, _draft, _run_view


def show() -> None:
    """Draws the page: the run of the address, one in progress, or what is about to start."""
    _common.header(
        "Train",
        "Start the recipe and watch it learn. You can close this page: training goes on, "
        "and this address shows it again.",
    )
    run = _common.chosen_run()
    if run is None and not st.session_state.get("start_anew"):
        running = jobs.active(_common.home())
        if running:
            run = running[0]
            _common.choose_run(run)
    if run is None:
        _ready()
    else:
        _run(run)


def _ready():
    recipe = _draft.recipe()
    if recipe is None:
        for path, text in _draft.problems().items():
            st.error(f"{path}: {text}" if path else text, icon=":material/error:")
        st.page_link("configure.py", label="Mend the recipe in Configure", icon=":material/tune:")
        return
    with st.container(border=True):
        _common.metrics(
            {
                "Dataset": recipe.dataset.title,
                "Backbone": recipe.backbone.title,
                "Image size": f"{recipe.image_size} px",
                "Epochs": sum(stage.epochs for stage in recipe.stages),
            },
            200,
        )
        for place, stage in enumerate(recipe.stages, 1):
            st.markdown(f"**{place}. {stage.name}**: {_common.stage_words(stage)}")
    for other in jobs.active(_common.home())[:1]:
        st.info(
            f"**{other.recipe.name}** is in progress; a run started now shares this host with it, and both take longer.",
            icon=":material/hourglass_top:",
        )
    if st.button("Start training", type="primary", key="start", icon=":material/play_arrow:"):
        run = jobs.start(recipe, _common.home())
        st.session_state.pop("start_anew", None)
        _common.choose_run(run)
        st.rerun()


def _run(run):
    st.subheader(_common.run_label(run), anchor=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(_common.STATUS[run.status])
        st.caption(f":material/memory: {_common.device_text()['text']}")
        if run.status in _common.ACTIVE:
            if st.button(
                "Stop",
                key="stop",
                icon=":material/stop:",
                help="Ends after the present step and keeps the best weights so far.",
            ):
                jobs.stop(run)
                st.toast("Stopping after this step; the best weights are kept.")
        else:
            if run.finished and st.button(
                "Test this model",
                type="primary",
                key="test_model",
                icon=":material/center_focus_strong:",
            ):
                st.switch_page("test.py", query_params={"run": run.id})
            if st.button(
                "New run",
                key="again",
                type="secondary" if run.finished else "primary",
                icon=":material/add:",
                help="Shows the recipe as it now is in Configure, ready to start.",
            ):
                _common.choose_run(None)
                st.session_state["start_anew"] = True
                st.rerun()
    if run.status not in _common.ACTIVE:
        _run_view.outcome(run)
    _run_view.live(run, _run_view.notes, _run_view.folded_stages, _run_view.log)


show()
