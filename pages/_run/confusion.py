"""The confusion matrix of a run, the same on Runs and on Test."""

import streamlit as st

from engine.charts import evaluation as charts_evaluation
from engine.predict import evaluation
from pages._ui.live_chart import chart


def show(run, figures, key: str) -> None:
    """The matrix, and all of it as CSV: with many classes, the chart shows the most confused ones.

    Args:
        run: the Run.
        figures: of `engine.predict.evaluation.measure`.
        key: of the chart.
    """
    chart(charts_evaluation.confusion_matrix(figures["confusion"], run.classes), key)
    st.caption("Numbers count images; a darker cell holds a larger share of its true class.")
    st.download_button(
        "Download the matrix as CSV",
        lambda: evaluation.confusion_csv(figures["confusion"], run.classes),
        "confusion.csv",
        "text/csv",
        on_click="ignore",
        key=f"{key}_csv",
        icon=":material/download:",
    )
