"""Batches on the Test page: progress, a grid and a table of answers, accuracy, drift, CSV."""

import functools
import time

import numpy as np
import streamlit as st

from engine import actions as gate
from engine import home as homes
from engine.charts import confidence
from engine.errors import GraftError
from engine.host import words
from engine.predict import batches, drift
from engine.predict import rows as answer_rows
from engine.predict.confidence import WORDS
from pages._test import answers, cards, folders, look
from pages._ui import common, job, owners, who
from pages._ui.grid import grid
from pages._ui.live_chart import chart

PAGE = 36
ADDRESS = "/answers"
DIFFERS = {(False, False): "no", (True, True): "slightly", (True, False): "yes"}
SORTS = {
    "name": "Name",
    "least": "Least confident first",
    "most": "Most confident first",
    "far": "Least similar to training first",
    "slow": "Slowest first",
}


def uploaded(run, zips, loose) -> None:
    """Starts a batch for each zip, and for the loose files on a click; shows the last one.

    Files arrive one by one, each with a rerun of the page: a batch that started automatically would
    start again with each of them.

    Args:
        run: the Run that classifies.
        zips, loose: lists of uploaded files.
    """
    started = st.session_state.setdefault("batches", {})
    groups = [(file, file.name) for file in zips]
    if loose:
        groups.append((loose, words.plural(len(loose), "image")))
    keys, home = [], homes.home()
    for source, title in groups:
        files = source if isinstance(source, list) else [source]
        identity = (run.id, *(file.file_id for file in files))
        if identity not in started and (not isinstance(source, list) or _asked(title)):
            _start(run, source, title, started, identity)
        found = started.get(identity)
        if isinstance(found, GraftError):  # shown as long as the files are there
            common.fail(found)
        elif found and (home / homes.BATCHES / found).exists():
            keys.append(found)
        elif found:
            st.caption(f"{common.plain(title)} was deleted; upload it to classify it again.")
    if keys:
        chosen = keys[-1]
        if len(keys) > 1:
            user = who.name()
            titles = common.distinct(
                {k: common.plain(gate.batch(home, k, user).title) for k in keys}
            )
            chosen = st.pills("Batch", keys, default=chosen, format_func=titles.get, required=True)
        show(run, chosen)


def _asked(title):
    return st.button(
        f"Classify {title}", key="classify", type="primary", icon=":material/play_arrow:"
    )


def _start(run, source, title, started, identity):
    """Starts a batch; keeps its key, or the error, in a plain dict.

    A rerun that arrives now interrupts the code where it touches the page or the session, and
    would otherwise start the batch twice.
    """
    bar = st.progress(0.0, text="Uploading images")

    def progress(done, total):
        bar.progress(done / total, text=f"Uploading images: {done:,} of {total:,}")

    try:
        if isinstance(source, list):
            source = [(file.name, file) for file in source]
        made = gate.classify(homes.home(), run, source, title, progress, who=who.name())
        started[identity] = made.key
    except GraftError as error:
        started[identity] = error
    bar.empty()


def earlier(run) -> None:
    """The stored batches of this run."""
    listed = gate.batches(homes.home(), run, who.name())
    wanted = st.query_params.get("batch")
    named = next((each for each in listed if each.key == wanted), None)
    found = {batch.key: batch for batch in owners.chosen(listed, owners.kept(), named)}
    if not found:
        st.caption(
            f"This run has no batches. A zip, a folder or more than {cards.MOST} images become "
            f"one, which is kept for {batches.DAYS} days."
        )
        return
    if st.session_state.get("earlier") not in found or wanted in found:
        st.session_state["earlier"] = wanted if wanted in found else next(iter(found))
    key = st.selectbox(
        "Batch",
        list(found),
        key="earlier",
        on_change=lambda: st.query_params.pop("batch", None),
        format_func=lambda k: (
            f"{words.printable(found[k].title)}, "
            f"{time.strftime('%d %b %H:%M', time.localtime(found[k].created))}"
            + (f", {found[k].owner}" if who.accounts() else "")
        ),
        width=520,
    )
    show(run, key)


def show(run, key) -> None:
    """One batch: its progress while it runs, its answers so far, and their figures."""
    batch = gate.batch(homes.home(), key, who.name())
    st.query_params["batch"] = key
    state = batch.state()
    if state["state"] == "running":
        stop = functools.partial(gate.stop_batch, batch, homes.home(), who.name())
        job.progress(batch.state, stop, "stop_batch", more=_peek)
    elif state["state"] == "failed":
        common.fail(state["error"])
    rows, result = batch.rows(), state["result"] or {}
    _head(batch, rows, result)
    if rows is None:
        return
    if result.get("drift"):
        _drift(result["drift"])
    elif state["state"] == "done":
        st.caption(
            "Drift is not available: it needs a complete batch of at least 30 images, a calibrated "
            "run, and at least 30 validation images."
        )
    figures = answer_rows.figures(rows, run.classes, batch.chosen)
    if figures:
        folders.show(run, batch, figures)
    _answers(run, batch, rows)


def _peek(state):
    if state["done"] and st.button("Show results so far", key="peek", icon=":material/visibility:"):
        st.rerun()


def _head(batch, rows, result):
    read = 0 if rows is None else int(rows.read.sum())
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{common.plain(batch.title)}**: {words.plural(read, 'image')} classified")
        if result.get("seconds"):
            seconds = result["seconds"]
            st.caption(f"in {seconds:.1f} s" if seconds < 10 else f"in {words.duration(seconds)}")
        if result.get("stopped"):
            st.caption(":orange[stopped early; shows the results so far]")
        if st.button("Delete", key=f"clear_{batch.key}", icon=":material/delete:"):
            gate.delete_batch(batch, homes.home(), who.name())
            st.query_params.pop("batch", None)
            st.rerun()
    lost = [] if rows is None else np.flatnonzero(~rows.read).tolist()
    unread = [(str(rows.names[i]), str(rows.errors[i])) for i in lost]
    for text, found, key in (
        (f"{words.grouped(len(lost))} could not be read", unread, "batch_lost"),
        ("Files left out", batch.left_out, "batch_left_out"),
    ):
        if found:
            with st.expander(text, key=key):
                st.dataframe([{"File": name, "Why": why} for name, why in found], hide_index=True)


def _drift(found):
    box, icon = st.success, ":material/check_circle:"
    if found["drifted"]:
        box, icon = st.warning, ":material/trending_down:"
    elif any(test.get("slight") for test in found["tests"].values()):
        box, icon = st.info, ":material/trending_flat:"
    box(f"**Drift.** {common.plain(found['text'])}", icon=icon)
    with st.expander("What was compared", key="batch_drift"):
        st.dataframe(
            [
                {
                    "Compared": drift.WORDS[name].capitalize(),
                    "Differs": DIFFERS[test["differs"], test.get("slight", False)],
                    "Counts as": "evidence" if name in drift.EVIDENCE else "note",
                    "In words": test["text"],
                    "p-value": f"{test['p']:.2g}",
                }
                for name, test in found["tests"].items()
            ],
            hide_index=True,
        )
        st.caption(
            f"{words.plural(found['n'], 'image')} compared with "
            f"{words.plural(found['validation'], 'validation image')} of the run. Only what the "
            "classifier sees is evidence of drift: the distance to the training images and the "
            "confidence, within each answered class (van Elteren). Notes: brightness, sharpness "
            "and size (Kolmogorov-Smirnov) and classes (chi-square). p-values are corrected "
            f"(Holm), and differences are reported if p < {drift.LEVEL}. Evidence that shows in "
            f"less than {words.percent(drift.EFFECT, 0)} of pairs is slight and does not count as "
            "drift."
        )


def _answers(run, batch, rows):
    kinds, verdicts = _verdicts(run, batch, rows)
    table = answer_rows.table(run, rows, verdicts, batch.chosen)
    chosen, view = _filtered(run, table, kinds)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{words.grouped(len(chosen))} of {words.plural(len(table), 'image')}")
        st.download_button(
            "Download as CSV",
            # The filtered images; without a filter also those that could not be read.
            lambda: answer_rows.to_csv(
                table if len(chosen) == int(rows.read.sum()) else [table[i] for i in chosen]
            ),
            "answers.csv",
            "text/csv",
            on_click="ignore",
            key="batch_csv",
            icon=":material/download:",
        )
    if view == "Table":
        _table(batch, table, chosen)
    else:
        _grid(run, batch, rows, table, chosen)


def _verdicts(run, batch, rows):
    """(the kinds of verdicts that there are, the verdict of each row or None); draws the chart of
    distances, or says why there are none."""
    known = answers.certainty(run)
    verdicts = [None] * len(rows)
    if isinstance(known, str):
        return [], verdicts
    read = np.flatnonzero(rows.read)
    calibrated = batch.calibration == (known.temperature, known.threshold)
    if not calibrated or np.isnan(rows.distances[read]).any():
        st.caption(
            "Confidence is not available: the run was calibrated later, or by another version of "
            "Graft. Classify the images again."
        )
        return [], verdicts
    given = known.judge(rows.probabilities[read], rows.distances[read], answers.coverage())
    for i, verdict in zip(read.tolist(), given, strict=True):
        verdicts[i] = verdict
    with st.expander("Distance from training images", key="batch_far"):
        uploads = [verdict.distance for verdict in given]
        chart(confidence.distances(known, uploads), f"batch_far_{batch.key}")
    return list(WORDS.values()), verdicts


def _filtered(run, table, kinds):
    """Draws the filters; returns (the chosen rows, sorted; "Grid" or "Table")."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        label = st.selectbox(
            "Answer",
            ["every class", *run.classes],
            key="batch_class",
            format_func=words.printable,
            width=160,
        )
        kind = st.selectbox(
            "Confidence", ["any", *kinds], key="batch_kind", width=150, disabled=not kinds
        )
        low, high = st.slider(
            "Probability (%)", 0, 100, (0, 100), key="batch_probability", width=170
        )
        sort = st.selectbox(
            "Sort by", list(SORTS), format_func=SORTS.get, key="batch_sort", width=190
        )
        view = st.segmented_control(
            "As", ["Grid", "Table"], default="Grid", required=True, key="batch_view"
        )
    unlike = WORDS["unlike"]
    chosen = [
        i
        for i, row in enumerate(table)
        if not row["error"]
        and (label == "every class" or label == row["answer"] and row["sure"] != unlike)
        and kind in ("any", row["sure"])
        and low <= 100 * row["probability"] <= high
    ]
    order = {
        "name": lambda i: i,
        "least": lambda i: table[i]["probability"],
        "most": lambda i: -table[i]["probability"],
        "far": lambda i: -(table[i]["distance"] or 0),
        "slow": lambda i: -table[i]["seconds"],
    }
    return sorted(chosen, key=order[sort]), view


def _answer(row, probability: str = "") -> str:
    """The answer in words: a photo of something else must not appear as a confident rose."""
    if row["sure"] == WORDS["unlike"]:
        return "none of these"
    if row["sure"] == WORDS["far"]:
        return f"perhaps {row['answer']}"
    return row["answer"] + probability


def _table(batch, table, chosen):
    from pages._ui import live_chart

    base = live_chart.base()
    st.dataframe(
        [
            {
                "": f"{base}{ADDRESS}/{batch.key}/{i}",
                "Image": table[i]["image"],
                "Answer": _answer(table[i]),
                "Probability": 100 * table[i]["probability"],
                "Confidence": table[i]["sure"],
                "Second": table[i]["second"],
                "Folder": table[i]["folder"],
                "Time (ms)": 1000 * table[i]["seconds"],
            }
            for i in chosen
        ],
        hide_index=True,
        height=520,
        column_config={
            "": st.column_config.ImageColumn(width="small"),
            "Probability": st.column_config.ProgressColumn(
                format="%.1f%%", min_value=0, max_value=100
            ),
            "Time (ms)": st.column_config.NumberColumn(
                format="%.0f",
                help="From bytes to the answer; several images are processed at the same time.",
            ),
        },
    )


def _grid(run, batch, rows, table, chosen):
    pages = -(-len(chosen) // PAGE)
    page = st.pagination(pages, key="batch_page") if pages > 1 else 1
    shown = chosen[(page - 1) * PAGE : page * PAGE]
    tiles = []
    for i in shown:
        row = table[i]
        sign = f" · {row['sure']}" if row["sure"] not in ("sure", "") else ""
        wrong = row["true_class"] and row["true_class"] != row["answer"]
        tiles.append(
            {
                "id": i,
                "src": f"{ADDRESS}/{batch.key}/{i}",
                "caption": _answer(row, f" {100 * row['probability']:.0f}%"),
                "note": (f"folder: {row['folder']}" if wrong else row["image"].rsplit("/", 1)[-1])
                + sign,
                "alt": f"{row['image']}: {row['answer']}",
                "title": f"{row['image']}{sign}",
            }
        )
    picked = grid(tiles, f"batch_grid_{batch.key}_{page}")
    if picked:
        names = ", ".join(common.plain(table[i]["image"].rsplit("/", 1)[-1]) for i in picked[-1:])
        if st.button(f"Look closer at {names}", key="batch_look", icon=":material/search:"):
            look.closer(run, table[picked[-1]]["image"], batch.image(picked[-1]))
    else:
        st.caption("Choose an image to look closer at it.")
