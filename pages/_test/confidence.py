"""How sure a classifier may be: the tab of the Test page about calibration, coverage and distance."""

import streamlit as st

from engine.charts import confidence as charts_confidence
from engine.host import words
from engine.predict import calibration, confidence
from pages._test import answers
from pages._ui import common
from pages._ui.live_chart import chart


def show(run) -> None:
    """Promises, and what they came to on the test images."""
    known = answers.certainty(run)
    if isinstance(known, str):
        common.fail(known)
        return
    found = calibration.summary(run)
    _coverage(known)
    grid = st.grid(2, min_column_width=380)
    with grid.cell():
        chart(charts_confidence.reliability(found["before"], found["after"]), f"sure_{run.id}")
        st.caption(
            f"On {words.plural(found['after']['n'], 'test image')}. Probabilities are scaled by a temperature "
            f"of {found['temperature']:.2f}, fitted on {words.plural(found['validation'], 'validation image')}. "
            f"The expected calibration error is {found['after']['ece']:.3f}, before scaling "
            f"{found['before']['ece']:.3f}.",
            help="By bins of equal mass (Roelofs et al. 2022). By the ten bins of the diagram it is "
            f"{found['after']['binned']:.3f}, before {found['before']['binned']:.3f}; with so few images a "
            f"perfectly calibrated classifier would show {found['after']['floor']:.3f} there, by chance alone.",
        )
    with grid.cell():
        chart(charts_confidence.distances(known), f"far_{run.id}")
        st.caption(
            "An image beyond the dotted line is **not like anything in training**, whatever its probabilities. That "
            f"line leaves out {100 * confidence.FALSE_ALARMS:.0f}% of the validation images; of the test "
            f"images it calls {words.percent(found['false_alarms'])} unlike training (false alarms). Beyond the "
            f"dashed line, where {100 * (1 - confidence.USUAL):.0f}% of the validation images are, one is **far from "
            "training** and no answer is sure.",
            help="The mean distance between an image's features and those of the "
            f"{confidence.NEIGHBOURS} nearest training images.",
        )


def _coverage(known):
    st.slider(
        "Target coverage",
        50,
        99,
        round(100 * confidence.COVERAGE),
        1,
        format="%d %%",
        key="coverage",
        persist_state="session",
        help="Conformal prediction: an answer is not sure where several classes are likely enough, or none; "
        "sure where one alone is, with a probability of at least what you ask for here, and the image is "
        "not far from training. The more you ask for, the more often it is not sure.",
        width=520,
    )
    if known.least(answers.coverage()) == 0:
        st.caption(
            "So much cannot be promised by so few validation images: every class counts as likely."
        )
    got = known.achieved(answers.coverage())
    common.metrics(
        {
            "Coverage on test images": words.percent(got["coverage"]),
            "Single-class answers": words.percent(got["single"]),
            "Sure answers": words.percent(got["sure"]),
            "Right when sure": words.percent(got["accuracy_when_sure"]),
        },
        170,
    )
