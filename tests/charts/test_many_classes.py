"""Charts and tables of a classifier of many classes are bounded, and say so."""

import csv
import io

import numpy as np
import pytest

from engine.charts import evaluation
from engine.predict import evaluation as figures_of
from engine.runs import worst

CLASSES = [f"species {i}" for i in range(1000)]


@pytest.fixture(scope="module")
def figures():
    """Of 1,000 classes with two images each; 7 and 900 are often confused."""
    labels = np.repeat(np.arange(1000), 2)
    answers = labels.copy()
    answers[[14, 15, 1800]] = [900, 900, 7]
    return figures_of.measure(np.eye(1000, dtype=np.float32)[answers], labels, CLASSES)


def test_the_confusion_matrix_shows_the_most_confused_classes_and_says_so(figures):
    drawn = evaluation.confusion_matrix(figures["confusion"], CLASSES)
    [trace] = drawn.data
    assert len(trace.y) == worst.DRAWN and {"species 7", "species 900"} <= set(trace.y)
    assert drawn.layout.title.text == "Confusion matrix: the 30 most confused of 1,000 classes"
    row, column = trace.y.index("species 7"), trace.x.index("species 900")
    assert trace.z[row][column] == 1.0 and trace.text[row][column] == 2
    few = evaluation.confusion_matrix([[1, 0], [1, 1]], ["a", "b"])
    assert few.layout.title.text == "Confusion matrix" and few.data[0].x == ("a", "b")


def test_the_csv_holds_the_whole_matrix(figures):
    rows = list(csv.reader(io.StringIO(figures_of.confusion_csv(figures["confusion"], CLASSES))))
    assert len(rows) == 1001 and {len(row) for row in rows} == {1001}
    assert rows[8][0] == "species 7" and rows[8][901] == "2"
    formula = figures_of.confusion_csv([[1, 0], [0, 1]], ["=1+1", "b"])
    assert "\r\n'=1+1,1,0\r\n" in formula


def test_charts_of_each_class_show_the_lowest_f1(figures):
    chart = evaluation.per_class(figures["per_class"])
    recall = chart.data[0]
    assert len(recall.y) == worst.DRAWN and recall.y[:1] == ("species 0",)
    assert {"species 7", "species 900"} <= set(recall.y)
    assert "the 30 with the lowest F1 of 1,000 classes" in chart.layout.title.text
    assert len(worst.worst(figures["per_class"][:30])) == 30
