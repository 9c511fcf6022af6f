"""The Confidence tab of the Test page: calibration, coverage and distance."""

import streamlit as st

from engine.charts import confidence as charts_confidence
from engine.host import words
from engine.predict import calibration, confidence
from pages._test import answers
from pages._ui import common
from pages._ui.live_chart import chart


def show(run) -> None:
    """The target coverage, and the coverage reached on the test images."""
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
            f"On {words.plural(found['after']['n'], 'test image')}. Probabilities are scaled with "
            f"temperature {found['temperature']:.2f}, fitted on "
            f"{words.plural(found['validation'], 'validation image')}. The expected calibration "
            f"error is {found['after']['ece']:.3f}; before scaling it was "
            f"{found['before']['ece']:.3f}.",
            help="By bins of equal mass (Roelofs et al. 2022). By the ten bins of the diagram it "
            f"is {found['after']['binned']:.3f}; before scaling {found['before']['binned']:.3f}. "
            "With this number of images, a perfectly calibrated classifier would show "
            f"{found['after']['floor']:.3f} there by chance alone.",
        )
    with grid.cell():
        chart(charts_confidence.distances(known), f"far_{run.id}")
        st.caption(
            "An image beyond the dotted line is **not like anything in training**, whatever its "
            f"probabilities. {100 * confidence.FALSE_ALARMS:.0f}% of the validation images and "
            f"{words.percent(found['false_alarms'])} of the test images are beyond it (false "
            f"alarms). Beyond the dashed line, where {100 * (1 - confidence.USUAL):.0f}% of the "
            "validation images are, an image is **far from training** and no answer is sure.",
            help="The mean distance between an image's features and those of its "
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
        help="Conformal prediction. An answer is sure if exactly one class is likely, its "
        "probability is at least the target, and the image is not far from training. It is "
        "not sure if several classes are likely, or none. A higher target gives fewer sure "
        "answers.",
        width=520,
    )
    if known.least(answers.coverage()) == 0:
        st.caption(
            "There are too few validation images for this target: every class counts as likely."
        )
    got = known.achieved(answers.coverage())
    common.metrics(
        {
            "Coverage on test images": words.percent(got["coverage"]),
            "Single-class answers": words.percent(got["single"]),
            "Sure answers": words.percent(got["sure"]),
            "Accuracy when sure": words.percent(got["accuracy_when_sure"]),
        },
        170,
    )
