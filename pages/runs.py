"""Runs: every run with its results; open, compare and delete them."""

import json
import time

import streamlit as st

from engine import GraftError
from engine import actions as gate
from engine.charts import evaluation as charts_evaluation
from engine.host import words
from pages._run import actions, confusion, queue, view
from pages._runs import audit, import_, people, storage, trash
from pages._ui import clicks, common, draft, owners, who
from pages._ui.live_chart import chart


def show() -> None:
    """Draws the page."""
    common.header("Runs", "All runs on this host. Choose a row to open it.")
    everything, damaged = common.all_runs()
    for _, why in damaged:
        text = f"{common.sentence(why)} The list leaves this run out."
        st.warning(common.plain(text), icon=":material/warning:")
    with common.guard():
        queue.section()
    if not everything:
        common.chosen_run()  # reports an address that names a run in the trash
        common.empty(
            "**No runs yet.** A run appears here as soon as training starts.",
            "train.py",
            "Go to Train",
        )
        _folded()
        return
    shown = owners.chosen(everything, owners.whose())
    if not shown:
        st.caption(
            f"You have no runs yet. **Everyone's** lists {words.plural(len(everything), 'run')}."
        )
    chosen = _table(shown) if shown else None
    if chosen is not None and not clicks.to_open():
        common.choose_run(chosen)
    run = common.chosen_run()
    if run is None:
        st.caption(":material/arrow_upward: Choose a row to see its charts, results and recipe.")
    else:
        _detail(run)
    _folded()


def _folded():
    if who.may("import a run"):
        with common.guard():
            import_.section()
    if who.may("change settings"):
        queue.host_settings()
    with common.guard():
        people.section()
    with common.guard():
        audit.section()
    with common.guard():
        trash.section()
    with common.guard():
        storage.section()


def _table(everything):
    rows = [_row(run) for run in everything]
    # Keyed by the list: a row number from another list would open the wrong run.
    picked = st.dataframe(
        rows,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=f"runs_{hash(tuple(run.id for run in everything))}",
        column_config={
            "Test accuracy": st.column_config.ProgressColumn(
                format="%.1f%%",
                min_value=0,
                max_value=100,
                help="Share of the test images classified correctly.",
            ),
            "Size (MB)": st.column_config.NumberColumn(
                format="%.1f", help="Disk space of the run's folder."
            ),
        },
    )
    places = picked.selection.rows
    return everything[places[0]] if places and places[0] < len(everything) else None


def _row(run):
    try:
        test, interval = (run.evaluation or {}).get("test"), "–"
    except GraftError:  # the page says why when the run is opened; the other runs stay visible
        test, interval = None, "damaged"
    if test:
        interval = "{:.1f} to {:.1f}%".format(*(100 * v for v in test["interval"]))
    return {
        "Status": common.STATUS[run.shown_status].split(": ", 1)[1],
        "Name": run.recipe.name,
        **({"Owner": run.owner} if who.accounts() else {}),
        "Test accuracy": round(100 * test["accuracy"], 1) if test else None,
        "95% interval": interval,
        "Dataset": run.recipe.dataset.title,
        "Backbone": run.recipe.backbone.title,
        "Duration": words.duration(run.seconds),
        "Started": time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created)),
        "Size (MB)": round(run.size / 1e6, 1),
        "Run": run.id,
    }


def _detail(run):
    st.subheader(common.run_label(run), anchor=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(common.STATUS[run.shown_status])
        st.caption(f"Run {common.plain(run.id)} {owners.of(run)}")
    with st.container(horizontal=True, vertical_alignment="center"):
        if run.finished:
            if st.button(
                "Test this model",
                type="primary",
                key="open_test",
                icon=":material/center_focus_strong:",
            ):
                st.switch_page("test.py", query_params={"run": run.id})
            if who.may("share a run", run.owner) and st.button(
                "Share", key="open_share", icon=":material/qr_code_2:"
            ):
                st.session_state["test_view"] = "Share"
                st.switch_page("test.py", query_params={"run": run.id})
        elif run.status in common.ACTIVE:
            if st.button("Watch", type="primary", key="open_train", icon=":material/monitoring:"):
                st.switch_page("train.py", query_params={"run": run.id})
        actions.buttons(run)
        if who.may("start a run") and st.button(
            "Use its recipe", key="take_recipe", icon=":material/content_copy:"
        ):
            draft.replace(run.recipe.to_dict(), follow=False)
            st.switch_page("configure.py")
        if run.status not in common.ACTIVE and who.may("delete a run", run.owner):
            with st.popover("Delete", icon=":material/delete:"):
                st.markdown(
                    "Move this run with its model, charts and log to the trash? It can be restored "
                    "from there."
                )
                st.button("Delete", key="delete_sure", on_click=_delete, args=(run,))
    common.show_error(actions.PLACE)
    actions.relatives(run)
    view.outcome(run)
    view.notes(run)
    names = ["Charts", "Confusion matrix", "Each class", "Stages", "Recipe", "Environment", "Log"]
    tabs = dict(zip(names, st.tabs(names, key="run_view", on_change="rerun"), strict=True))
    views = {
        "Charts": view.live,
        "Confusion matrix": _confusion,
        "Each class": _classes,
        "Stages": view.stages,
        "Recipe": _recipe,
        "Environment": _environment,
        "Log": lambda run: st.code(run.log_tail(200) or "(empty)", language=None),
    }
    for name, tab in tabs.items():
        if tab.open:  # the body of a closed tab would run too
            with tab, common.guard():
                views[name](run)


def _delete(run):
    with common.guard():
        gate.delete(run, who.name())
        common.choose_run(None)
        st.toast("The run is in the trash; restore it below the table.")


def _evaluated(run):
    part = st.segmented_control(
        "Measured on",
        ["test", "validation"],
        default="test",
        required=True,
        key="evaluated_part",
        persist_state="session",
        help="Training never used the test images. The validation images chose the best "
        "weights, so their figures look better than they are.",
    )
    return (run.evaluation or {}).get(part)


def _confusion(run):
    figures = _evaluated(run)
    if not figures:
        st.caption("The run was not evaluated.")
        return
    confusion.show(run, figures, f"confusion_{run.id}")


def _classes(run):
    figures = _evaluated(run)
    if not figures:
        st.caption("The run was not evaluated.")
        return
    left, right = st.columns(2)
    with left:
        chart(charts_evaluation.per_class(figures["per_class"]), f"classes_{run.id}")
    with right:
        names = {"precision": "Precision", "recall": "Recall", "f1": "F1"}
        table = [
            {"Class": row["label"]}
            | {n: words.percent(row[k]) for k, n in names.items()}
            | {"Images": row["support"]}
            for row in figures["per_class"]
        ]
        st.dataframe(table, hide_index=True)
        st.caption(
            "Recall: the share of this class's images that were found. Precision: the share of "
            "answers with this class that were correct. F1: their harmonic mean."
        )


def _recipe(run):
    text = run.recipe.to_yaml()
    st.download_button(
        "Download the recipe",
        text,
        f"{words.file_name(run.recipe.name) or run.id}.yaml",
        "application/yaml",
        on_click="ignore",
        icon=":material/download:",
    )
    st.code(text, language="yaml")


def _environment(run):
    st.caption("The hardware and software that the run recorded.")
    st.code(json.dumps(run.environment, indent=1, default=str), language="json")


show()
