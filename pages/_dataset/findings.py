"""Findings of the Dataset page: the inspection, its results, and what fixing them gained."""

import numpy as np
import streamlit as st

from engine import actions as gate
from engine.data import curation
from engine.host import words
from engine.inspection import findings, inspection, judge, payback
from pages._dataset import gallery
from pages._dataset.data import View
from pages._ui import common, draft, job, who

SIGNS = {
    "high": ":red[:material/error:] serious",
    "medium": ":orange[:material/warning:] worth a look",
    "low": ":blue[:material/info:] info",
}


def inspect(view: View) -> None:
    """The progress of the inspection, or the button that starts it."""
    recipe = draft.recipe()
    if recipe is None:
        st.info(
            "The recipe is not valid yet; Configure says why. The inspection uses the recipe's "
            "backbone.", icon=":material/info:",
        )  # fmt: skip
        return
    home, plain = common.home(), view.spec.model_copy(update={"overlay": ""})
    state = inspection.state(plain, home, recipe)
    if state["state"] == "running":
        job.progress(
            lambda: inspection.state(plain, home, recipe),
            lambda: gate.stop_inspection(plain, home, recipe, who.name()),
            "stop_inspect",
        )
        return
    if state["state"] == "failed":
        common.fail(state["error"])
    if state["state"] != "done":
        pixels = view.inspection is not None
        st.markdown(
            "Inspect again with this recipe's backbone: it finds wrong labels and outliers, and "
            "draws the map."
            if pixels
            else "Look for **duplicates, leakage between parts, wrong labels, blurred or dark "
            "images, outliers** and more. It runs in the background, and the results are kept."
        )
        if st.button("Inspect this dataset", key="inspect", icon=":material/troubleshoot:"):
            with common.guard():
                gate.inspect(plain, home, recipe, who=who.name())
                st.rerun()


def show(view: View) -> None:
    """The list of findings, and the images of the chosen one."""
    inspect(view)
    if not view.inspection:
        return
    _lost(view)
    recipe = draft.recipe()
    if recipe and (replaced := judge.replaced(recipe, view.inspection.backbone)):
        st.caption(common.plain(replaced))
    found = [f for f in view.found() if f.count]
    if not found:
        st.success("No problems found.", icon=":material/check_circle:")
    else:
        kinds = {f.kind: f for f in found}
        texts = {"high": "serious", "medium": "worth a look", "low": "info"}
        rows = [
            {
                "Finding": f.title,
                "How serious": texts[f.severity],
                "Count": f.count,
                "Likely true": findings.share(f),
            }
            for f in found
        ]
        st.dataframe(rows, hide_index=True, width=720)
        name = st.selectbox(
            "Look at", list(kinds), key=f"finding_{'_'.join(kinds)}",
            format_func=lambda k: f"{kinds[k].title} ({kinds[k].count:,})", width=420,
        )  # fmt: skip
        _finding(view, kinds[name])
    _payback(view)


def _lost(view):
    """How many images can no longer be read, and a button to inspect again."""
    lost = next((finding for finding in view.found() if finding.kind == "lost"), None)
    if lost:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.error(
                f"{words.grouped(lost.count)} of {words.plural(len(view.dataset), 'image')} can no "
                f"longer be read. {common.plain(lost.advice)}", icon=":material/broken_image:",
            )  # fmt: skip
            if st.button("Inspect again", key="inspect_again"):
                with common.guard():
                    plain = view.spec.model_copy(update={"overlay": ""})
                    gate.inspect(plain, common.home(), draft.recipe(), True, who.name())
                    st.rerun()


def _finding(view, finding):
    st.markdown(f"{SIGNS[finding.severity]} · {common.plain(finding.advice)}")
    if not len(finding.indices):
        _without_images(view, finding)
        return
    if finding.kind == "lost":
        names, classes = view.dataset.names, view.dataset.classes
        labels = view.dataset.labels
        rows = [{"file": names[i], "class": classes[labels[i]]} for i in finding.indices.tolist()]
        st.dataframe(rows, hide_index=True)
    copies = findings.suggested_exclusions(finding, view.dataset)
    preselect = None
    if len(copies):
        groups = finding.groups is not None
        text = words.plural(len(copies), "copy", "copies") + ", keep one of each"
        preselect = (text if groups else f"{len(copies):,} of them", copies)
    chosen = np.concatenate(finding.groups) if finding.groups else np.asarray(finding.indices, int)
    answers = view.measure("suggested") if findings.suggests_labels(finding) else None
    gallery.gallery(
        view,
        chosen,
        f"finding_{finding.kind}",
        _notes(view, finding),
        preselect,
        None if answers is None else lambda i: view.dataset.source_classes[answers[i]],
    )


def _notes(view, finding):
    """A tile's second line: why the image is in the finding."""
    dataset, where = view.dataset, gallery.where(view)
    suggested = view.measure("suggested")
    if finding.kind in ("mislabelled", "doubtful") and suggested is not None:
        probability = view.measure("suggested_probability")
        return lambda i: (
            f"looks like {dataset.source_classes[suggested[i]]} ({100 * probability[i]:.0f}%)"
        )
    if finding.groups:
        group = {int(i): n for n, members in enumerate(finding.groups, 1) for i in members}
        return lambda i: f"group {group[i]} · {where[i]}".rstrip(" ·")
    if finding.scores is not None:
        score = dict(zip(np.asarray(finding.indices).tolist(), finding.scores, strict=True))
        return lambda i: f"{score[i]:.3g} · {where[i]}".rstrip(" ·")
    return None


def _without_images(view, finding):
    """Files that are not images of the dataset."""
    if finding.kind == "unreadable":
        rows = [{"file": n, "why": w} for n, w in view.dataset.unreadable]
        st.dataframe(rows, hide_index=True)


def _payback(view):
    """What the decisions gained: the head, trained again on cached features."""
    texts = curation.in_words(common.home(), view.dataset.overlay)
    recipe = draft.recipe()
    if not texts or recipe is None or not (view.inspection.features or {}):
        return
    home, spec = common.home(), view.spec
    with st.container(border=True):
        st.markdown(f"**Did it help?** {common.plain(texts.capitalize())}.")
        state = payback.state(spec, home, recipe)
        if state["state"] == "running":
            job.progress(
                lambda: payback.state(spec, home, recipe),
                lambda: gate.stop_measuring_decisions(spec, home, recipe, who.name()),
                "stop_payback",
            )
            return
        if state["state"] == "failed":
            common.fail(state["error"])
        if state["state"] == "done":
            _worth(state["result"])
            return
        st.caption(
            "Trains the head with and without your decisions on cached features, and compares both "
            "on the same validation images."
        )
        if st.button("Retrain the head and compare", key="payback", icon=":material/trending_up:"):
            with common.guard():
                gate.measure_decisions(spec, home, recipe, who.name())
                st.rerun()


def _worth(result):
    common.metrics(
        {
            "Validation before": words.percent(result["before"]),
            "Validation after": words.percent(result["after"]),
        }
    )
    st.markdown(common.plain(result["text"]))
