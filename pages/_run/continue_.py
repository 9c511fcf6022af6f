"""Continue training: a small form that adds a stage to a finished run, as a new run."""

import streamlit as st

from engine import actions as gate
from pages._configure import stages
from pages._ui import clicks, common, who


def popover(run) -> None:
    """The button and the form of a run that has a model, for who may train."""
    if not who.may("continue a run"):
        return
    last = run.recipe.stages[-1]
    with st.popover("Continue training", icon=":material/forward:"):
        st.markdown(
            "**Continue training** as a new run. This run does not change; the new run keeps its "
            "weights unless it finds better ones."
        )
        choices, words = stages.parts(run.recipe.backbone.name, run.recipe.backbone.alpha)
        if last.trainable not in choices:
            choices = [*choices, last.trainable]
        keys = {name: f"more_{name}_{run.id}" for name in ("trainable", "epochs", "learning_rate")}
        st.selectbox(
            "What is trained (trainable)",
            choices,
            index=choices.index(last.trainable),
            format_func=lambda choice: words.get(choice, choice),
            key=keys["trainable"],
        )
        st.number_input(
            "Length (epochs)", min_value=1, value=last.epochs, step=1, key=keys["epochs"]
        )
        st.number_input(
            "Learning rate",
            min_value=0.0,
            value=last.learning_rate,
            step=1e-4,
            format="%g",
            key=keys["learning_rate"],
            help="The size of each step. Use a smaller one to train more of the network.",
        )
        st.caption(
            f"All other settings are those of its last stage, {common.plain(last.name)} (optimizer "
            f"{last.optimizer}, schedule {last.schedule})."
        )
        st.button(
            "Start",
            key="continue_run",
            icon=":material/play_arrow:",
            on_click=_clicked,
            args=(run, keys, clicks.drawing()),
        )


def _clicked(run, keys, drawn):
    # Read the fields now, so that the latest input counts.
    wanted = {name: st.session_state[key] for name, key in keys.items()}
    clicks.once("run", drawn, _start, run, wanted, who.name())


def _start(run, wanted, user):
    """Puts the continuation into the queue."""
    last = run.recipe.stages[-1]
    stage = last.model_dump(mode="json") | {"name": "more"} | wanted
    # Scaled with the stage: a warm-up longer than its stage is refused.
    stage["warmup_epochs"] = last.warmup_epochs * wanted["epochs"] / last.epochs
    return gate.extend(run, [stage], user)
