"""The Test page by AppTest: what it says of an answer, of a batch, and of a run that knows less."""

import re
import shutil

import pytest

from engine import home as homes
from engine.charts import evaluation
from engine.data.sources import collection
from engine.predict import batches, confidence, feedback, reference
from engine.runs import runs
from pages._test import answers
from tests.support.pages import button, from_source, open_page, said
from tests.support.pictures import encode, picture


@pytest.fixture
def page(graft_home, trained_run, monkeypatch):
    """Opens the Test page on the trained run."""
    monkeypatch.setenv("GRAFT_HOME", str(graft_home))

    def opened(**query):
        return open_page("test", run=trained_run.id, **query)

    return opened


def test_own_test_images_are_answered_with_the_truth_and_how_sure(page, trained_run):
    text = said(from_source(page(), "Test images of this run"))
    assert "it is **" in text.lower()
    assert ":material/verified: sure" in text


def test_uploads_are_answered_and_what_is_no_image_is_one_sentence(page):
    app = page()
    for name, data in (("a.png", encode(picture())), ("b.png", b"no picture")):
        app.file_uploader[0].upload(name, data, "image/png")
    app.run()
    assert not app.exception, app.exception
    assert said(app).count("#### ") == 1
    assert any("b.png: it is not an image" in e.value.replace("\\", "") for e in app.error)


@pytest.mark.parametrize(
    ("kind", "heading", "badge"),
    [
        ("sure", r"#### \w+ &nbsp; \d+%", "verified: sure"),
        ("far", r"#### perhaps \w+", "far from training"),
        ("unsure", r"#### \w+ &nbsp; \d+%", "not sure]: no class is likely enough"),
        ("unlike", r"#### none of these", "not like training"),
    ],
)
def test_a_card_is_headed_by_no_more_than_may_be_said(page, monkeypatch, kind, heading, badge):
    likely = [] if kind == "unsure" else ["x"]
    judged = confidence.Verdict(kind, likely, 0.5)
    monkeypatch.setattr(answers, "verdict", lambda run, image: judged)
    app = page()
    app.file_uploader[0].upload("a.png", encode(picture()), "image/png")
    text = said(app.run())
    assert not app.exception, app.exception
    assert re.findall("#### .*", text) == [re.search(heading, text).group()]
    assert badge in text


def test_a_thousand_classes_fold_above_the_uploader_and_in_an_answer(page, monkeypatch):
    names = [f"species {i}" for i in range(1000)]
    judged = confidence.Verdict("unsure", names[:640], 0.5)
    monkeypatch.setattr(answers, "verdict", lambda run, image: judged)
    monkeypatch.setattr(runs.Run, "classes", property(lambda run: names))
    app = page()
    app.file_uploader[0].upload("a.png", encode(picture()), "image/png")
    text = said(app.run())
    assert not app.exception and len(text) < 3000
    assert "and 990 more" in text and "and 635 more" in text
    assert judged.text.endswith("species 4 and 635 more.") and len(judged.text) < 200


def test_a_card_shows_names_as_they_are_and_cuts_long_ones():
    figure = evaluation.top_k([('say "cheese" <b>', 0.9), ("a name that is too long", 0.1)])
    told = [note.text for note in figure.layout.annotations]
    assert told == ['say "cheese" &lt;b&gt;', "90.0%", "a name that is to…", "10.0%"]


def test_a_batch_says_no_more_than_cards_and_nothing_by_an_older_calibration(
    page, graft_home, trained_run, monkeypatch
):
    files = [(f"{i}.png", encode(picture(seed=i))) for i in range(3)]
    batch = batches.start(graft_home, trained_run, files, "three drawings")
    while batch.state()["state"] == "running":
        pass
    kinds = ["sure", "far", "unlike"]
    judged = [confidence.Verdict(kind, ["x"], 0.5) for kind in kinds]
    monkeypatch.setattr(confidence.Confidence, "judge", lambda *_: judged)
    app = page(batch=batch.key)
    app.session_state["batch_view"] = "Table"
    shown = app.run().dataframe[0].value.sort_values("Image")
    assert list(shown["Confidence"]) == [confidence.WORDS[kind] for kind in kinds]
    assert [text.split()[0] in trained_run.classes for text in shown["Answer"]] == [
        True,
        False,
        False,
    ]
    assert (
        shown["Answer"].iloc[1].startswith("perhaps ")
        and shown["Answer"].iloc[2] == "none of these"
    )
    asked = homes.read_json(batch.path / batches.REQUEST)
    asked["stage"] = asked.pop("parameters")["about"]  # as an earlier version wrote it
    del asked["stage"]["calibration"]
    homes.write_json(batch.path / batches.REQUEST, asked)
    assert "Classify the images again" in said(page(batch=batch.key))
    batch.clear()


def test_a_batch_by_its_address_shows_answers_and_an_unknown_one_says_so(
    page, graft_home, trained_run
):
    files = [(f"{i}.png", encode(picture(seed=i))) for i in range(3)]
    batch = batches.start(graft_home, trained_run, files, "three drawings")
    while batch.state()["state"] == "running":
        pass
    text = said(page(batch=batch.key))
    assert "three drawings" in text and "3 images classified" in text
    batch.clear()
    assert "This run has no batches" in said(page(batch=batch.key))


def test_certainty_has_its_own_view_and_a_run_without_memory_says_so(
    page, trained_run, own_home, monkeypatch
):
    app = page()
    app.session_state["test_view"] = "Confidence"
    app.run()
    values = {metric.label: metric.value for metric in app.metric}
    assert values["Coverage on test images"].endswith("%")
    shutil.copytree(trained_run.path, own_home / "runs" / trained_run.id)
    (own_home / "runs" / trained_run.id / reference.FILE).unlink()
    monkeypatch.setenv("GRAFT_HOME", str(own_home))
    app = open_page("test", run=trained_run.id)
    assert "Confidence is not available" in said(app) and "engine calibrate" in said(app)
    text = said(from_source(app, "Test images of this run"))
    assert ":material/verified: sure" not in text and "it is **" in text


def test_marked_images_are_listed_and_collected(page, graft_home, trained_run):
    feedback.mark(trained_run, "x.png", encode(picture(seed=77)), "star", "square")
    app = page()
    app.session_state["test_view"] = "Marked images"
    app.run()
    assert "**1 image marked**: 0 correct, 1 wrong." in said(app)
    button(app, "Add to dataset").click().run()
    assert "1 image added" in said(app)
    name = next(n for n in collection.names(graft_home) if n.endswith("v2"))
    collection.delete(graft_home, name)
    assert feedback.marks(trained_run) == []


def test_two_runs_answer_side_by_side(page, trained_run, own_home, monkeypatch):
    for name in (trained_run.id, f"{trained_run.id}-again"):
        shutil.copytree(trained_run.path, own_home / "runs" / name)
    monkeypatch.setenv("GRAFT_HOME", str(own_home))
    app = open_page("test", run=trained_run.id)
    from_source(app, "Test images of this run")
    before = said(app).count("#### ")
    app.selectbox(key="compared").select(f"{trained_run.id}-again").run()
    assert not app.exception
    assert said(app).count("#### ") == 2 * before


def test_exports_are_offered_with_what_they_are_for(page):
    app = page()
    app.session_state["test_view"] = "Export"
    app.run()
    text = said(app)
    assert "**ONNX**" in text and "**LiteRT" in text


def test_a_folder_that_is_no_class_is_offered_its_near_match_and_counts_on_a_click(
    page, graft_home, trained_run
):
    label = trained_run.classes[0]
    files = [
        (f"{name}/{i}.png", encode(picture(seed=i)))
        for name in (f"{label}s", "meadow", "pond")
        for i in range(2)
    ]
    batch = batches.start(graft_home, trained_run, [*files, ("x.txt", b"x")], "a folder")
    while batch.state()["state"] == "running":
        pass
    app = page(batch=batch.key)
    text = said(app)
    assert f"{label}s: did you mean {label}? 2 images were not counted." in text
    assert "No folder counts as a class, so the accuracy is not known." in text
    assert "meadow and pond: no class of this run has such a name." in text
    assert any(item.label == "Files left out" for item in app.expander)
    button(app, f"Count {label}s as {label}").click().run()
    text = said(app)
    assert f"{label}s counts as {label} (your choice)." in text and "2 images, 95% interval" in text
    [chosen] = [box for box in app.selectbox if box.label == "Counts as"]
    chosen.set_value(label).run()  # of meadow, the first folder that still needs a choice
    text = said(app)
    assert "4 images, 95% interval" in text
    assert "pond: no class of this run has such a name." in text
    batch.clear()


def test_two_runs_of_the_same_label_are_told_apart(tmp_path, trained_run, monkeypatch):
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path))
    for name in ("one", "two"):
        shutil.copytree(trained_run.path, homes.home(tmp_path) / homes.RUNS / name)
    for name in ("one", "two"):
        app = from_source(open_page("test", run=name), "Test images of this run")
        assert app.query_params["run"] == name
        assert app.selectbox(key="classifier").value == name
