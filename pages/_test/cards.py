"""Cards of the Test page, one for each image: the answer, its confidence, and a closer look."""

import time

import streamlit as st

from engine.charts import evaluation
from engine.host import words
from engine.predict import rows as answer_rows
from pages._test import answers as _test_answers
from pages._test import look
from pages._ui import common
from pages._ui.live_chart import chart

MOST = 12
"""Answers on one page, and the most loose images shown as cards; more become a batch."""
WIDTH = 226
"""Width of a card in pixels: four fit side by side at 1440 pixels, two at 800, one on a phone."""


def show(run, other, images) -> None:
    """Cards of images.

    Args:
        run: the Run that classifies.
        other: a Run to compare with, or None.
        images: list of (name, bytes or path, true label or None).
    """
    pages = -(-len(images) // MOST)
    page = st.pagination(pages, key="answers_page") if pages > 1 else 1
    shown = [
        (name, _test_answers.shown(image), truth)
        for name, image, truth in images[(page - 1) * MOST : page * MOST]
    ]
    with st.container(horizontal=True):
        for place, (name, image, truth) in enumerate(shown):
            with st.container(border=True, width=WIDTH if other is None else 2 * WIDTH):
                _card(run, other, place, name, image, truth)
    st.download_button(
        "Download as CSV",
        lambda: _csv(run, shown),
        "answers.csv",
        "text/csv",
        on_click="ignore",
        key="cards_csv",
        icon=":material/download:",
    )


def _csv(run, shown):
    """The answers of the shown cards as CSV, in the same columns as a batch's."""
    answers = [_test_answers.answer(run, image) for _, image, _ in shown]
    verdicts = [_test_answers.verdict(run, image) for _, image, _ in shown]
    far = [verdict.distance if verdict else float("nan") for verdict in verdicts]
    names, truths = [name for name, _, _ in shown], [truth or "" for _, _, truth in shown]
    found = answer_rows.of_answers(names, answers, far, truths)
    return answer_rows.to_csv(answer_rows.table(run, found, verdicts))


def _card(run, other, place, name, image, truth):
    found = _test_answers.answer(run, image)
    key = f"{place}_{image.content[:12]}"
    _test_answers.picture(run, image, name)
    if found.error:
        st.error(common.plain(f"{name}: {found.error}."), icon=":material/broken_image:")
        return
    if other is None:
        _answer(run, image, truth, key)
    else:
        for column, one in zip(st.columns(2), (run, other), strict=True):
            with column:
                when = time.strftime("%d %b %H:%M", time.localtime(one.created))
                accuracy = (one.evaluation or {}).get("test", {}).get("accuracy")
                st.caption(
                    f"{common.plain(one.recipe.name)}, {when}, test {words.percent(accuracy)}"
                )
                _answer(one, image, truth, f"{key}_{one.id}")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{common.plain(name)} · {1000 * found.seconds:.0f} ms")
        if st.button("Look closer", key=f"look_{key}", icon=":material/search:"):
            look.closer(run, name, image.data)


def _answer(run, image, truth, key):
    found, verdict = _test_answers.answer(run, image), _test_answers.verdict(run, image)
    label, probability = found.top(1)[0]
    if verdict and verdict.kind == "unlike":
        # The most likely class is still shown, but not as the heading.
        st.markdown("#### none of these")
        st.markdown(_test_answers.BADGES["unlike"], help=_distance(verdict))
        st.caption(f"Most likely class: {common.plain(label)}, {100 * probability:.0f}%.")
    else:
        if verdict and verdict.kind == "far":
            st.markdown(f"#### perhaps {common.plain(label)}")
        else:
            st.markdown(f"#### {common.plain(label)} &nbsp; {100 * probability:.0f}%")
        if verdict:
            _verdict(verdict)
    if truth is not None:
        sign = (
            ":green[:material/check: correct]"
            if truth == label
            else ":orange[:material/close: wrong]"
        )
        texts = f"{sign}, it is" if not verdict or verdict.kind != "unlike" else "It is"
        st.markdown(f"{texts} **{common.plain(truth)}**")
    top = found.top(int(st.session_state["top_k"]))
    listed = ", ".join(f"{name} {100 * p:.1f}%" for name, p in top)
    chart(evaluation.top_k(top), f"answer_{key}", alt=f"Most likely classes: {listed}")


def _verdict(verdict):
    text = _test_answers.BADGES[verdict.kind]
    if verdict.kind == "unsure":
        likely = words.listed(verdict.likely, last="or") or "no class is likely enough"
        text += f": {common.plain(likely)}"
    share = round(100 * _test_answers.coverage())
    st.markdown(
        text,
        help=f"In {share} of 100 images, the likely classes include the true one. Sure: only one "
        f"class is likely, its probability is at least {share}%, and the image is not far "
        f"from training. {_distance(verdict)}",
    )


def _distance(verdict):
    return f"Distance to the nearest training images: {verdict.distance:.2f}."
