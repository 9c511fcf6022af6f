"""Galleries of the Dataset page: lists of images, with buttons for decisions about them."""

import numpy as np
import streamlit as st

from engine import actions as gate
from engine.data import curation, datasets
from engine.data.splits import PARTS
from engine.host import words
from pages._dataset.data import View, aspect
from pages._ui import clicks, common, owners, pictures, who
from pages._ui.grid import grid

PAGE = 36
SORTS = {
    "classes": "Alternate classes",
    "name": "Name",
    "brightness": "Darkest first",
    "sharpness": "Blurriest first",
    "large": "Largest first",
    "aspect": "Widest first",
    "outlier": "Least similar first",
    "given_probability": "Most doubtful label first",
}
_NEED = ("brightness", "sharpness", "outlier", "given_probability")


def browse(view: View) -> None:
    """All images, filtered by class, part and finding, sorted."""
    dataset, found = view.dataset, view.found()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        # Keyed by the images: the number of a class means another class in another dataset.
        label = pick_class(view, "gallery_class", 220)
        part = st.selectbox(
            "Part", ["", *PARTS], format_func=lambda p: p.capitalize() or "All parts", width=160,
            key="gallery_part", persist_state="session", disabled=view.parts is None,
        )  # fmt: skip
        kinds = {f.kind: f for f in found if len(f.indices)}
        kind = st.selectbox(
            "Finding", ["", *kinds], width=240, key=f"gallery_finding_{len(kinds)}",
            format_func=lambda k: f"{kinds[k].title} ({kinds[k].count:,})" if k else "All images",
            disabled=not kinds,
        )  # fmt: skip
        sorts = [s for s in SORTS if s not in _NEED or view.measure(s) is not None]
        sort = st.selectbox(
            "Order", sorts, format_func=SORTS.get, width=220, key="gallery_sort",
            persist_state="session",
        )  # fmt: skip
    chosen = np.asarray(kinds[kind].indices, int) if kind in kinds else np.arange(len(dataset))
    if label is not None:
        chosen = chosen[dataset.labels[chosen] == label]
    if part and view.parts:
        chosen = chosen[np.isin(chosen, view.parts[part])]
    gallery(view, ordered(view, chosen, sort), f"all_{label}_{part}_{kind}_{sort}")


def pick_class(view: View, key: str, width=None):
    """A widget for a class; its index, or None for all classes."""
    dataset = view.dataset
    chosen = st.selectbox(
        "Class",
        [-1, *range(len(dataset.classes))],
        key=f"{key}_{dataset.source_fingerprint[:12]}_{len(dataset.classes)}",
        persist_state="session",
        format_func=lambda i: "All classes" if i < 0 else words.printable(dataset.classes[i]),
        width=width or "stretch",
    )
    return None if chosen < 0 else chosen


def ordered(view: View, chosen: np.ndarray, sort: str) -> np.ndarray:
    """Indices in an order of `SORTS`."""
    dataset = view.dataset
    if sort == "classes":
        return in_turn(dataset, chosen)
    if sort == "name":
        return np.array(sorted(chosen.tolist(), key=dataset.names.__getitem__), int)
    if sort == "large":
        values = -(dataset.widths.astype(np.int64) * dataset.heights)
    elif sort == "aspect":
        values = -aspect(dataset)
    else:
        values = view.measure(sort)
        values = -values if sort == "outlier" else values
    return chosen[np.argsort(values[chosen], kind="stable")]


def in_turn(dataset, chosen: np.ndarray) -> np.ndarray:
    """Images of all classes, alternating between classes."""
    labels = dataset.labels[chosen]
    order = np.argsort(labels, kind="stable")
    begins = np.searchsorted(labels[order], np.arange(len(dataset.classes)))
    turn = np.empty(len(chosen), int)  # position within its class
    turn[order] = np.arange(len(chosen)) - begins[labels[order]]
    return chosen[np.lexsort((labels, turn))]


def gallery(
    view: View, chosen: np.ndarray, key: str, notes=None, preselect=None, suggested=None
) -> None:
    """A list of images: pages of tiles, with buttons for decisions about them.

    Args:
        view: the View.
        chosen: int array, indices in the order to show.
        key: different for every list on the page.
        notes: function of an index that returns a tile's second line; by default its part.
        preselect: (words for a button, indices): images that a finding suggests to leave out.
        suggested: function of an index that returns its suggested class, for one more button.
    """
    if not len(chosen):
        st.caption("No images to show.")
        return
    pages = -(-len(chosen) // PAGE)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(words.plural(len(chosen), "image"))
        page = st.pagination(pages, key=f"page_{key}") if pages > 1 else 1
    parts = where(view)
    base = pictures.address(view.spec)
    dataset = view.dataset
    tiles = []
    for i in chosen[(page - 1) * PAGE : page * PAGE].tolist():
        label = dataset.classes[dataset.labels[i]]
        tiles.append(
            {
                "id": i,
                "src": f"{base}/{dataset.contents[i]}",
                "caption": label,
                "note": notes(i) if notes else str(parts[i]),
                "alt": f"{label}: {dataset.names[i]}",
                "title": f"{dataset.names[i]}\n{dataset.widths[i]} × {dataset.heights[i]}"
                f" {dataset.formats[i]}",
            }
        )
    actions = st.container()
    # The key contains the overlay: after an image is left out, an index means another image.
    marked = grid(tiles, f"grid_{key}_{page}_{view.short}", view.editable)
    with actions:
        _actions(view, chosen, marked, key, preselect, suggested)


def where(view) -> np.ndarray:
    """The part of each image, "" where there is no split."""
    names = np.full(len(view.dataset), "", "U10")
    for part, members in (view.parts or {}).items():
        names[members] = part
    return names


def _actions(view, chosen, marked, key, preselect, suggested):
    """Buttons for decisions about the chosen images, or about the whole list."""
    if not view.editable:
        st.caption(
            "To change decisions, first use the latest decisions of this host: the button is above "
            "or under Decisions."
        )
        return
    dataset = view.dataset
    with st.container(horizontal=True, vertical_alignment="bottom"):
        everything = st.toggle(
            f"Select all {len(chosen):,}", key=f"all_{key}_{view.short}",
            help="Decisions apply to every image of this list, on all its pages.",
        )  # fmt: skip
        about = chosen if everything else np.array(marked, int)
        count = words.plural(len(about), "image")
        if preselect:
            what, indices = preselect
            _button(view, f"pre {key}", f"Leave out {what}", f"Left out {what}", indices, "exclude")
        _button(
            view, f"out {key}", f"Leave out ({len(about):,})", f"Left out {count}", about, "exclude"
        )
        if suggested is not None:
            _button(
                view, f"as {key}", f"Relabel as suggested ({len(about):,})",
                f"Relabelled {count} as suggested", about, "relabel",
                [suggested(i) for i in about.tolist()],
            )  # fmt: skip
        with st.popover("Relabel", icon=":material/label:", disabled=not len(about)):
            to = st.selectbox(
                "Correct class",
                dataset.source_classes,
                key=f"to_{key}",
                format_func=words.printable,
            )
            text = f"{count} as {to}"
            _button(
                view, f"re {key}", f"Relabel {text}", f"Relabelled {text}", about, "relabel", to
            )
        with st.popover("Move to a part", icon=":material/move_down:", disabled=not len(about)):
            part = st.selectbox(
                "Part", PARTS, format_func=str.capitalize, key=f"part_{key}",
                help="All copies of an image belong in one part.",
            )  # fmt: skip
            text = f"{count} to {part}"
            _button(view, f"mv {key}", f"Move {text}", f"Moved {text}", about, "move", part)
    if not len(about):
        st.caption(
            "Click images to choose them. Your files stay as they are; every step can be undone."
        )


def _decide(home, view, text, indices, do, to, user) -> None:
    made = curation.decisions(view.dataset, indices, do, to, view.parts)
    gate.decide(home, view.spec, text, made, user)


def _button(view, key, label, text, indices, do, to=""):
    """A button that adds a step of decisions, computed when it is clicked, not when it is drawn."""
    drawn, home = clicks.drawing(), common.home()
    owners.button(
        common.plain(label), "decide about images", datasets.owner(view.spec, home),
        key=f"{key} {view.short}", disabled=not len(indices),
        icon=":material/visibility_off:" if do == "exclude" else None,
        on_click=clicks.once,
        args=(
            "curation", drawn, _decide, home, view, text, indices, do, to, who.name(),
        ),
    )  # fmt: skip
