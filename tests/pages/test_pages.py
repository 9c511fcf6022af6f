"""The pages without a browser: what they show, what they keep, what they say when it goes wrong."""

import asyncio
import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image
from starlette.requests import Request
from streamlit.testing.v1 import AppTest

from engine import load_preset
from engine.charts import training
from engine.data import datasets, prepare_worker
from engine.home import home as make_home
from engine.runs.history import POINTS, History
from tests.support import ROOT
from tests.support.browser import GrowingRun

from pages._ui import address, pictures  # isort: skip
from tests.support.pages import as_read, button, open_page, prepared, said

PAGES = ("dataset", "configure", "train", "test", "runs")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home of its own."""
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path))
    return make_home()


@pytest.mark.parametrize("page", PAGES)
def test_every_page_has_a_title_a_device_and_at_most_one_primary_button(home, page):
    app = open_page(page)
    assert app.title[0].value == page.capitalize()
    assert "core" in said(app) or "GB" in said(app)
    assert not app.error
    assert sum(item.proto.type == "primary" for item in app.button) <= 1


def test_empty_pages_say_what_to_do_next(home):
    assert "Train one first" in said(open_page("test"))
    assert "No runs yet" in said(open_page("runs"))
    assert button(open_page("train"), "Start training")


def test_sample_is_labelled_as_generated_and_shows_its_classes(home):
    dataset = prepared(home)
    app = open_page("dataset")
    assert "Generated drawings, not photos" in said(app)
    shown = {item.label: item.value for item in app.metric}
    assert shown["Images"] == f"{len(dataset):,}"
    assert shown["Classes"] == str(len(dataset.classes))


def test_a_file_that_has_gone_leaves_the_rest_of_the_gallery(home, class_folder):
    sets = ["dataset.source=folder", f"dataset.path={class_folder}"]
    spec = load_preset("sample", sets).dataset
    prepare_worker.ingest(spec, home)
    (class_folder / "red" / "00.jpg").write_bytes(b"another file by now")
    app = open_page("dataset", preset="sample", set=sets)
    assert not app.error and "36 images" in said(app)
    dataset = datasets.open_dataset(spec, home)
    found = {n: thumbnail(spec, c) for n, c in zip(dataset.names, dataset.contents, strict=True)}
    assert [name for name, response in found.items() if response.status_code != 200] == [
        "red/00.jpg"
    ]
    one = found["red/01.jpg"]
    assert max(Image.open(io.BytesIO(one.body)).size) == 64 and "immutable" in str(one.headers)
    for key, content in (
        ("..", "a" * 64),
        (datasets.key(spec), "../manifest.json"),
        ("none", "a" * 64),
    ):
        assert thumbnail(key, content).status_code == 404


def thumbnail(spec, content):
    """What the server answers for a thumbnail's address."""
    key = spec if isinstance(spec, str) else datasets.key(spec)
    scope = {"type": "http", "path_params": {"key": key, "content": str(content)}}
    # In a thread of its own: Playwright, once used, leaves a running loop in this one.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, pictures.answer(Request(scope))).result()


def test_a_missing_folder_is_one_sentence(home):
    app = open_page(
        "dataset", preset="sample", set=["dataset.source=folder", "dataset.path=/not/here"]
    )
    button(app, "Preview").click().run()
    assert not app.exception
    assert any("There is no folder /not/here" in item.value for item in app.error)


def test_preset_is_taken_over_and_kept_in_the_address(home):
    app = open_page("configure")
    next(box for box in app.selectbox if box.label == "Start from a preset").select("flowers").run()
    assert app.query_params["preset"] in ("flowers", ["flowers"])
    assert any(box.label == "Network" and box.value == "MobileNetV2" for box in app.selectbox)
    app.switch_page("train.py").run()
    assert {m.label: m.value for m in app.metric}["Backbone"] == "MobileNetV2 0.35"


def epochs(app):
    return next(item for item in app.number_input if item.label == "Length (epochs)")


def test_clicks_with_an_older_address_undo_nothing_but_back_and_forward_do(home, monkeypatch):
    app = open_page("configure", preset="sample", set=["batch_size=16"])
    older = app.query_params["set"]
    epochs(app).set_value(7).run()
    newer = app.query_params["set"]
    assert newer != older
    for _ in range(2):  # the browser does not know the newer address yet
        app.query_params["set"] = older
        button(app, "Add a stage").click().run()
        assert epochs(app).value == 7 and app.query_params["set"] != older
    assert sum(item.label == "Length (epochs)" for item in app.number_input) == 4
    epochs(app).set_value(9).run()
    epochs(app).set_value(7).run()
    app.query_params["set"] = [*newer, "stages.0.epochs=9"]  # now it knows the one with 9
    button(app, "Add a stage").click().run()
    assert epochs(app).value == 7

    monkeypatch.setattr(address, "went_back", lambda: True)
    app.query_params["set"] = older
    app.run()
    assert epochs(app).value != 7 and app.query_params["set"] in (older, [older])
    app.query_params["set"] = newer
    app.run()
    assert epochs(app).value == 7
    monkeypatch.undo()
    button(app, "Undo all changes").click().run()
    assert "set" not in app.query_params


def test_a_value_of_a_widget_drawn_before_a_newer_change_is_not_used(home):
    app = open_page("configure")
    before, rate = epochs(app), named(app.number_input, "Batch size")
    before.set_value(9)  # typed, but heard together with the newer choice of a preset
    named(app.selectbox, "Start from a preset").select("flowers").run()
    assert epochs(app).value == load_preset("flowers").stages[0].epochs
    assert not app.exception and "stages.0.epochs" not in str(app.query_params.get("set"))

    # What a change leaves alone keeps its widget, so that what is typed meanwhile counts.
    named(app.number_input, "Batch size").set_value(48)
    button(app, "Add a stage").click().run()
    assert named(app.number_input, "Batch size").value == 48
    assert "batch_size=48" in str(app.query_params["set"])
    assert rate.id != named(app.number_input, "Batch size").id


def named(items, label):
    return next(item for item in items if item.label.startswith(label))


def test_link_with_settings_opens_that_recipe(home):
    app = open_page("configure", preset="sample", set=["stages.0.epochs=2", "batch_size=16"])
    numbers = {item.label: item.value for item in app.number_input}
    assert 2 in [item.value for item in app.number_input if item.label == "Length (epochs)"]
    assert numbers["Batch size (images)"] == 16


def test_bad_link_says_so_and_keeps_the_default(home):
    app = open_page("configure", preset="sample", set=["stages.0.epochs=0"])
    assert any("must be at least 1" in item.value for item in app.warning)
    assert "Exactly the preset sample" in said(app)


def test_problem_stands_beside_its_field_and_stops_the_primary_button(home):
    app = open_page("configure")
    schedule = next(b for b in app.selectbox if b.label.startswith("Learning rate over time"))
    schedule.select("exponential").run()
    assert "needs a decay_rate above 0" in said(app)
    assert button(app, "Use this recipe").disabled


def test_stages_can_be_added_duplicated_and_removed(home):
    app = open_page("configure")
    app.button(key="add_stage").click().run()
    assert "Stage 3: unfrozen 2" in said(app)
    app.button(key="remove_0").click().run()
    assert "Stage 3" not in said(app)
    assert "Stage 1: unfrozen" in said(app)
    app.button(key="duplicate_0").click().run()
    assert not app.exception
    assert not app.error


def test_yaml_text_with_a_bad_value_shows_its_sentence_and_changes_nothing(home):
    app = open_page("configure")
    area = next(item for item in app.text_area if "stages:" in item.value)
    area.set_value(area.value.replace("batch_size: 32", "batch_size: 0")).run()
    app.button(key="apply_yaml").click().run()
    assert any("batch_size" in as_read(e.value) and "at least 1" in e.value for e in app.error)
    assert "Exactly the preset sample" in said(app)


def test_yaml_text_is_taken_over(home):
    app = open_page("configure")
    area = next(item for item in app.text_area if "stages:" in item.value)
    area.set_value(area.value.replace("batch_size: 32", "batch_size: 64")).run()
    app.button(key="apply_yaml").click().run()
    assert "1 setting differs from the preset sample" in said(app)


def test_every_field_of_the_recipe_has_its_widget_and_help(home):
    """What can be written in YAML can be set on a page, with the engine's own words as help."""
    from engine.recipe import all_fields, field_help

    helps = set()
    for query in (
        [
            "backbone.name=MobileNetV2",
            "backbone.weights=imagenet",
            "dataset.source=tfds",
            "dataset.name=beans",
        ],
        ["dataset.source=folder", "dataset.path=/tmp"],
        ["stages.0.optimizer=sgd", "stages.0.schedule=cosine", "stages.0.warmup_epochs=1"],
        ["stages.0.schedule=exponential", "stages.0.decay_rate=0.5"],
    ):
        for page in ("dataset", "configure"):
            app = open_page(page, preset="sample", set=query)
            for kind in (
                "selectbox",
                "number_input",
                "text_input",
                "text_area",
                "toggle",
                "button_group",
                "segmented_control",
                "pills",
            ):
                helps |= {item.proto.help for item in app.get(kind)}
    missing = [f["path"] for f in all_fields() if field_help(f["path"]) not in helps]
    # Its toggle stands where decisions are listed, once there are any: tests/test_pages_dataset.py.
    assert missing == ["dataset.overlay"]


def test_running_run_is_shown_by_address_and_by_default(home):
    growing = GrowingRun(home)
    growing.grow(20)
    for app in (open_page("train"), open_page("train", run=growing.run.id)):
        assert "Running" in said(app)
        assert {m.label: m.value for m in app.metric}["Time left"].endswith(" s")
        assert app.query_params["run"] in (growing.run.id, [growing.run.id])
        assert button(app, "Stop")
    assert "growing" in said(open_page("dataset")), "the rail shows the run in progress"


def test_stop_asks_the_run_to_stop(home):
    growing = GrowingRun(home)
    growing.grow(5)
    button(open_page("train"), "Stop").click().run()
    assert (growing.run.path / "stop").exists()


def test_failed_run_shows_its_sentence_and_the_end_of_its_log(home):
    growing = GrowingRun(home)
    growing.grow(5)
    growing.fail("the loss was not a number")
    for page in ("train", "runs"):
        app = open_page(page, run=growing.run.id)
        assert any("The loss was not a number" in item.value for item in app.error)
        assert any("the last line of the log" in item.value for item in app.code)


def test_unknown_run_is_one_sentence(home):
    for page in ("train", "test", "runs"):
        GrowingRun(home).fail("x")
        app = open_page(page, run="no-such-run")
        assert "no run 'no-such-run'" in said(app) or page == "test"


def test_deleting_a_run_asks_first(home):
    growing = GrowingRun(home)
    growing.fail("x")
    app = open_page("runs", run=growing.run.id)
    assert "to the trash? It can be restored" in said(app)
    button(app, "Delete").click().run()
    assert not growing.run.path.exists()


def test_finished_run_is_offered_with_its_interval(graft_home, trained_run, monkeypatch):
    monkeypatch.setenv("GRAFT_HOME", str(graft_home))
    app = open_page("runs", run=trained_run.id)
    assert any("test accuracy" in item.value for item in app.success)
    assert button(app, "Test this model")
    app = open_page("test")
    assert "Classes: " in said(app)


# -- charts -------------------------------------------------------------------------------------


def test_thinned_curve_keeps_its_extremes():
    y = [0.0] * 10_000
    y[1234], y[8765] = 9.0, -9.0
    x, kept = training.thin(range(10_000), y)
    assert len(x) <= POINTS
    assert (kept.max(), kept.min()) == (9.0, -9.0)


def test_curves_read_events_and_show_stages_and_both_parts(home):
    growing = GrowingRun(home)
    growing.grow(60)
    events, _ = growing.run.events()
    for make in (training.loss, training.accuracy):
        figure = make(events)
        assert [trace.name for trace in figure.data] == ["train, each step", "train", "validation"]
        assert [note.text for note in figure.layout.annotations] == ["1 frozen", "2 unfrozen"]
        assert figure.data[1].line.color != figure.data[2].line.color
        assert figure.data[1].line.dash != figure.data[2].line.dash
    assert training.loss(events, by="epoch").data[1].x == (1.0, 2.0, 3.0, 4.0)


def test_curves_of_a_run_without_events_are_empty_figures():
    for make in (training.loss, training.accuracy, training.learning_rate, training.throughput):
        assert make([]).to_json()


def test_history_grows_by_pieces_to_the_same_as_at_once(home):
    growing = GrowingRun(home)
    history, offset = History(), 0
    for steps in (1, 20, 60):
        growing.grow(steps)
        events, offset = growing.run.events(offset)
        history.add(events)
    assert training.loss(history) == training.loss(growing.run.events()[0])


# -- the server's process stays light -----------------------------------------------------------


def test_pages_import_neither_keras_nor_tensorflow():
    modules = [
        f"pages.{p.stem}"
        for p in (ROOT / "pages").glob("_*.py")
        if p.stem not in ("_shell", "__init__")
    ]
    modules += [
        "engine.predict.classifier",
        "engine.charts.training",
        "engine.data.datasets",
        "engine.jobs.jobs",
        "engine.images.preview",
        "engine.runs.runs",
        "engine.models.freezing",
        "engine.recipe.schedules",
        "engine.data.sources.sample",
        "engine.runs.trash",
        "engine.doctor.doctor",
    ]
    code = (
        f"import sys, importlib; [importlib.import_module(m) for m in {modules}]; "
        "print([m for m in sys.modules if m.split('.')[0] in ('keras', 'tensorflow')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_an_unexpected_error_is_a_sentence_without_its_details():
    def script():
        from pages._ui import common

        common.explain(ValueError("what only the log may say"))

    app = AppTest.from_function(script, default_timeout=30).run()
    assert "an unexpected error (ValueError)" in app.error[0].value
    assert "what only the log may say" not in app.error[0].value


def test_a_foreign_file_on_the_runs_page_is_refused_in_one_sentence(
    graft_home, trained_run, monkeypatch
):
    monkeypatch.setenv("GRAFT_HOME", str(graft_home))
    before = sorted((graft_home / "runs").iterdir())
    app = open_page("runs")
    place = next(item for item in app.file_uploader if item.label == "File")
    place.upload("model.keras", b"no model", "application/octet-stream").run()
    button(app, "Import").click().run()
    assert "model.keras is not imported: " in said(app).lower()
    assert sorted((graft_home / "runs").iterdir()) == before
