"""Charts of predictions and of confidence: what a reader sees on hovering, and in the legend."""

from engine.charts import confidence as charts_confidence
from engine.charts import evaluation
from engine.predict.confidence import WORDS, Confidence


def test_a_confusion_matrix_counts_in_the_singular_and_plural():
    [trace] = evaluation.confusion_matrix([[1, 2], [0, 1234]], ["daisy", "rose"]).data
    assert [list(row) for row in trace.customdata] == [
        ["1 image", "2 images"],
        ["0 images", "1,234 images"],
    ]


def test_a_class_without_images_has_no_shares():
    [trace] = evaluation.confusion_matrix([[1, 1], [0, 0]], ["daisy", "rose"]).data
    assert [list(row) for row in trace.text] == [[1, 1], ["–", "–"]]
    assert [list(row) for row in trace.hovertext] == [["50.0%", "50.0%"], ["–", "–"]]


def test_a_precision_that_is_unknown_has_no_bar():
    rows = [{"label": "daisy", "recall": 0.917, "precision": None}]
    recall, precision = evaluation.per_class(rows).data
    assert recall.x == (91.7,)
    assert precision.x == (None,)


def test_limits_of_distance_are_named_by_the_words_of_the_verdicts(trained_run):
    known = Confidence(trained_run)
    notes = [note.text for note in charts_confidence.distances(known).layout.annotations]
    assert notes == [f"beyond: {WORDS['far']}", f"beyond: {WORDS['unlike']}"]


def test_a_bin_of_the_reliability_diagram_says_how_many_images_it_has():
    row = {"low": 0.9, "high": 1.0, "n": 1, "confidence": 0.95, "accuracy": 1.0}
    found = {"n": 1, "ece": 0.05, "rows": [row]}
    figure = charts_confidence.reliability(found, found)
    assert figure.data[1].text == ("1 image",)
