"""The learning-rate finder of a stage: start it, watch it, use its result."""

import streamlit as st

from engine import actions as gate
from engine.charts import rates as charts_rates
from engine.data import datasets
from engine.errors import GraftError
from engine.estimate import probes, rate_test
from engine.jobs import jobs
from pages._ui import common, draft, job, who
from pages._ui.live_chart import chart


def finder(place: int) -> None:
    """Draws the finder of the stage at a place of the draft."""
    recipe, home = draft.recipe(), common.home()
    known = {"state": "missing"}
    if recipe is not None:
        key = rate_test.key_recipe(recipe, place)
        known = probes.state("rates", key, home, place)
    if known["state"] == "running":
        job.progress(
            lambda: probes.state("rates", key, home, place),
            lambda: gate.cancel_measurement("rates", key, home, place, who.name()),
            f"cancel_rate_{place}",
            "Cancel",
        )
        return
    why_not = _why_not(recipe, home)
    # A callback runs before anything is drawn; a click read while drawing can be lost.
    st.button(
        "Find a learning rate",
        key=f"find_rate_{place}",
        icon=":material/troubleshoot:",
        type="tertiary",
        disabled=why_not is not None,
        help=why_not
        or "Learning-rate range test: runs about 100 steps with a rising rate and suggests the "
        "rate at which the loss falls fastest. It changes no setting.",
        on_click=_start,
        args=(place,),
    )
    if known["state"] == "failed":
        common.fail(known["error"])
    elif known["state"] == "done":
        _answer(known["result"] | {"present": recipe.stages[place].learning_rate}, place)


def _start(place):
    with common.guard():
        # Read the draft now, so that the latest input counts.
        key = rate_test.key_recipe(draft.recipe(), place)
        gate.measure("rates", key, common.home(), place, who.name())


def _why_not(recipe, home):
    """Why the test cannot be run now, one sentence; None if it can."""
    if recipe is None:
        return "Fix the recipe first; the red lines say what is wrong."
    if datasets.state(recipe.dataset, home)["state"] != "ready":
        return "The dataset is not prepared yet: prepare it on the Dataset page."
    try:
        active = jobs.active(home)
    except GraftError as error:
        return common.plain(common.sentence(error))
    if active:
        return (
            "A run is in progress, and the test would slow it down: wait until it ends or stop it."
        )
    return None


def _answer(result, place):
    chart(charts_rates.rate_range(result), f"rate_range_{place}")
    st.caption(common.plain(result["text"]))
    if result["suggestion"] is None:
        return
    rate = rate_test.rounded(result["suggestion"])
    st.button(
        f"Use {rate:.1e}",
        key=f"use_rate_{place}",
        icon=":material/check:",
        disabled=rate == result["present"],
        help="Sets this stage's learning rate.",
        on_click=draft.put,
        args=(f"stages.{place}.learning_rate", rate),
    )
