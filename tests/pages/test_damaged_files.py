"""Pages of runs and datasets with a damaged file: one sentence that names it, and no traceback."""

import pytest

from engine.runs import files, runs
from tests.support.damage import SPEC, cut, flip, linked
from tests.support.pages import from_source, open_page, said

RUNS = {
    files.LITERT: "test",
    files.ARCHITECTURE: "test",
    files.CONFIDENCE: "test",
    files.REFERENCE: "test",
    files.MANIFEST: "test",
    files.EVALUATION: "runs",
    files.EVENTS: "runs",
    files.RECIPE: "runs",
    files.STATUS: "runs",
    files.ENVIRONMENT: "runs",
}
"""The files of a run, and the page that reads each."""


@pytest.fixture
def home(own_home, trained_run, monkeypatch):
    linked(trained_run.path, own_home / "runs" / trained_run.id)
    monkeypatch.setenv("GRAFT_HOME", str(own_home))
    return own_home


@pytest.mark.parametrize("name", RUNS)
def test_a_page_names_a_damaged_file_of_a_run(home, trained_run, name):
    run = runs.get_run(home, trained_run.id)
    flip(run.path / name)
    app = open_page(RUNS[name], run=run.id)
    if RUNS[name] == "test" and not app.error:
        app = from_source(app, "Test images of this run")
    elif name == files.ENVIRONMENT:
        app.session_state["run_view"] = "Environment"
        app.run()
    assert not app.exception, app.exception
    assert name in said(app) and "damaged" in said(app), said(app)


@pytest.mark.parametrize("name", ["index.npz", "manifest.json", "images.bin"])
def test_the_dataset_page_names_a_damaged_file(own_home, monkeypatch, name):
    from engine.data import prepare_worker

    monkeypatch.setenv("GRAFT_HOME", str(own_home))
    cut(prepare_worker.ingest(SPEC, own_home).path / name)
    app = open_page("dataset", preset="sample", set=["dataset.images=60"])
    assert not app.exception, app.exception
    assert any(name in error.value for error in app.error), [e.value for e in app.error]


def test_a_run_whose_model_was_removed_is_not_hidden(home, trained_run):
    (runs.get_run(home, trained_run.id).path / files.LITERT).unlink()
    text = said(from_source(open_page("test", run=trained_run.id), "Test images of this run"))
    assert f"{files.LITERT}: it is missing" in text, text
