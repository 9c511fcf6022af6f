"""The stages of the recipe, one card each."""

import streamlit as st

from engine.errors import GraftError
from engine.recipe import StageSpec
from pages._configure.freeze_map import blocks_of
from pages._configure.rate_finder import finder
from pages._ui import common, draft
from pages._ui.fields import field, problem


def cards() -> None:
    """A card for every stage, two side by side if they fit, and a button that adds a stage."""
    st.subheader("Stages", anchor=False)
    st.caption(
        "A stage trains one part of the network for some epochs. Usually the first stage trains "
        "only the new head (frozen), and the next also the pretrained network with smaller steps "
        "(unfrozen)."
    )
    stages = draft.get("stages")
    grid = st.grid(2, min_column_width=380)
    for place in range(len(stages)):
        with grid.cell(), st.container(border=True):
            _card(place, len(stages))
    st.button(
        "Add a stage",
        key="add_stage",
        icon=":material/add:",
        disabled=len(stages) >= 10,
        on_click=draft.edit_stages,
        args=("add", len(stages) - 1),
    )
    problem("stages")


def _card(place, count):
    base = f"stages.{place}"
    head = st.container(horizontal=True, vertical_alignment="center")
    name = common.plain(str(draft.get(base + ".name")))
    head.markdown(f"**Stage {place + 1}: {name}**", width="stretch")
    with head.container(horizontal=True, width="content", gap="xsmall", wrap=False):
        actions = [
            ("up", ":material/arrow_back:", "Earlier", place == 0),
            ("down", ":material/arrow_forward:", "Later", place == count - 1),
            ("duplicate", ":material/content_copy:", "Duplicate", count >= 10),
            ("remove", ":material/delete:", "Remove", count == 1),
        ]
        for action, icon, label, disabled in actions:
            st.button(
                "",
                icon=icon,
                key=f"{action}_{place}",
                help=f"{label} (stage {place + 1})",
                disabled=disabled,
                on_click=draft.edit_stages,
                args=(action, place),
                type="tertiary",
            )
    try:
        st.caption(common.stage_words(StageSpec.model_validate(draft.get(base))))
    except ValueError:
        pass  # its fields say what is wrong
    choices, words = parts(draft.get("backbone.name"), draft.get("backbone.alpha"))
    field(
        f"{base}.trainable",
        "What is trained (trainable)",
        choices=choices,
        words=words,
        accept_new_options=True,
    )
    grid = st.grid(2, min_column_width=150)
    with grid.cell():
        field(f"{base}.epochs", "Length")
    with grid.cell():
        field(f"{base}.learning_rate", "Learning rate", step=1e-4)
    with st.expander("More settings"):
        _more(base)
    problem(base)


def _more(base):
    # In narrower columns long labels would wrap; then the columns stack.
    grid = st.grid(2, min_column_width=195)
    schedule = draft.get(f"{base}.schedule")
    with grid.cell():
        field(f"{base}.name", "Name")
        field(f"{base}.schedule", "Learning rate over time (schedule)")
        if schedule == "cosine" or draft.get(f"{base}.warmup_epochs"):
            field(f"{base}.warmup_epochs", "Warm-up", step=0.5)
        if draft.get(f"{base}.warmup_epochs"):
            field(f"{base}.warmup_rate", "Highest rate of the warm-up", step=1e-4)
            field(f"{base}.warmup_below", "Warm up only below", step=10)
        if schedule in ("inverse_time", "exponential") or draft.get(f"{base}.decay_rate"):
            field(f"{base}.decay_rate", "Decay (decay_rate)", step=0.001)
        field(f"{base}.early_stopping", "Stop early after")
    with grid.cell():
        field(f"{base}.optimizer", "Optimizer")
        field(f"{base}.batch_norm", "Batch normalization (batch_norm)")
        if draft.get(f"{base}.optimizer") in ("sgd", "rmsprop"):
            field(f"{base}.momentum", "Momentum")
        field(f"{base}.weight_decay", "Weight decay", step=1e-4)
    finder(int(base.split(".")[1]))


def parts(name: str, alpha: float | None) -> tuple[list, dict]:
    """The choices for `trainable`, and the words for each.

    Args:
        name: of the backbone.
        alpha: its width, or None.
    """
    choices = ["none", "all"]
    words = {"none": "Only the new head (none)", "all": "The whole network (all)"}
    try:
        count = len(blocks_of(name, alpha)[0])
    except GraftError:  # an unknown backbone: its own field says so
        count = 0
    for number in range(1, count):
        choice = f"last {number} block{'s' * (number > 1)}"
        choices.append(choice)
        words[choice] = f"Head and the {choice} of {count}"
    return choices, words
