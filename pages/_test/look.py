"""A closer look at one answer of the Test page: why, its nearest images, and its true class."""

import streamlit as st

from engine import actions as gate
from engine.host import words
from engine.images import decode
from engine.predict import confidence, explanation, feedback
from pages._test import answers
from pages._ui import clicks, common, who

METHODS = {
    "Grad-CAM": "Regions that support the class (class activation).",
    "Occlusion": "Regions that matter: how much the class's probability falls when they are "
    "covered.",
}
PLACE = "look"


@st.dialog("Look closer", width="large")
def closer(run, name, image) -> None:
    """Opens the dialog.

    Args:
        run: the Run that classifies.
        name: of the image.
        image: bytes or a path.
    """
    with common.guard():
        _why(run, name, image)
        _nearest(run, image)
        _mark(run, name, image)


def _why(run, name, image):
    found = _seen(run, image)
    classes = [label for label, _ in found.top(len(found.classes))]
    controls = st.columns([2, 2, 2], vertical_alignment="bottom")
    # Keyed by the image: a choice belongs to one image only.
    label = controls[0].selectbox(
        "Explain",
        classes,
        format_func=words.printable,
        key=f"look_class_{_own(run, image)}",
        help="Which regions support this class?",
    )
    method = controls[1].segmented_control(
        "Method", list(METHODS), default="Grad-CAM", required=True, key="look_method"
    )
    opacity = controls[2].slider("Opacity", 0, 100, 60, 5, format="%d %%", key="look_opacity")
    heat = _heat(run, image, label, method)
    left, right = st.columns(2)
    with left:
        st.image(explanation.overlay(found.image, heat * 0, 0.0), alt=words.printable(name))
        st.caption(common.plain(name))
    with right:
        st.image(
            explanation.overlay(found.image, heat, opacity / 100),
            alt=words.printable(f"{method} for {label}"),
        )
        share = dict(found.top(len(found.classes)))[label]
        st.caption(f"**{common.plain(label)}**, {100 * share:.1f}%. {METHODS[method]}")
    if not heat.any():
        st.caption("No region supports this class.")


def _own(run, image):
    return f"{run.id}_{answers.digest(image)[:12]}"


def _seen(run, image):
    """The answer for an image, with its feature map and the image; kept for the last one."""
    kept = st.session_state.setdefault("look_seen", {})
    key = (run.id, answers.digest(image))
    if key not in kept:
        kept.clear()
        stream = answers.classifier(run).stream([image], keep_images=True, keep_maps=True)
        kept[key] = {"answer": next(stream), "heats": {}}
        kept[key]["answer"].image.thumbnail((960, 960))
    return kept[key]["answer"]


def _heat(run, image, label, method):
    kept = st.session_state["look_seen"][(run.id, answers.digest(image))]
    if (label, method) not in kept["heats"]:
        if method == "Grad-CAM":
            heat = explanation.grad_cam(run, kept["answer"], label)
        else:
            bar = st.progress(0.0, text="Covering one region after another")
            heat = explanation.occlusion(
                answers.classifier(run),
                decode.read(image),
                label,
                lambda done, total: bar.progress(
                    done / total, text=f"Covering one region after another: {done} of {total}"
                ),
            )
            bar.empty()
        kept["heats"][label, method] = heat
    return kept["heats"][label, method]


def _nearest(run, image):
    st.markdown("**Nearest training images**")
    known = answers.certainty(run)
    if isinstance(known, str):
        st.caption(common.plain(common.sentence(known)))
        return
    rows = explanation.nearest(known.reference, _seen(run, image).features)
    for column, row in zip(st.columns(len(rows)), rows, strict=True):
        with column:
            alt = words.printable(row["name"])
            st.image(known.reference.thumbnail(row["row"]), alt=alt, width="stretch")
            st.caption(f"{common.plain(row['label'])}, distance {row['distance']:.2f}")
    verdict = known.verdicts([_seen(run, image)], answers.coverage())[0]
    st.caption(
        f"Distances between features, 0 to 1.4. The mean of the first {confidence.NEIGHBOURS} is "
        f"{verdict.distance:.2f}. Beyond {known.usual:.2f} an image is far from training and no "
        f"answer is sure; beyond {known.threshold:.2f} it is not like anything in training."
    )


def _mark(run, name, image):
    data = image if isinstance(image, bytes) else image.read_bytes()
    answer, _ = _seen(run, image).top(1)[0]
    marked = feedback.label_of(run, data, who.name())
    st.markdown("**Is the answer correct?**")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if st.button(f"Yes: {common.plain(answer)}", key="mark_right", icon=":material/check:"):
            clicks.do(PLACE, _keep, run, name, data, (answer, answer), who.name())
            st.rerun(scope="fragment")
        label = st.selectbox(
            "No, it is",
            run.classes,
            index=None,
            format_func=words.printable,
            key=f"mark_label_{_own(run, image)}",
            accept_new_options=True,
            placeholder="a class, or type a new one",
            width=260,
        )
        if st.button(
            "Mark as wrong", key="mark_wrong", icon=":material/close:", disabled=not label
        ):
            clicks.do(PLACE, _keep, run, name, data, (answer, label), who.name())
            st.rerun(scope="fragment")
    common.show_error(PLACE)
    if marked:
        st.caption(
            f":material/bookmark: Marked as **{common.plain(marked)}**. On the tab *Marked images* "
            "you can add marked images to a dataset."
        )


def _keep(run, name, data, said, user):
    gate.mark(run, name, data, *said, who=user)
