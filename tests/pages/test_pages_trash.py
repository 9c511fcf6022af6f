"""The trash on the Runs page, and pages beside damaged runs; without a browser."""

import pytest

from engine.home import home as make_home
from engine.runs import runs, trash
from tests.support.browser import GrowingRun
from tests.support.pages import button, open_page, said


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home of its own."""
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path))
    return make_home()


@pytest.fixture
def failed(home):
    """A run that has ended."""
    growing = GrowingRun(home, "tulips")
    growing.fail("x")
    return growing.run


def test_a_deleted_run_is_said_to_be_in_the_trash_and_can_be_restored(home, failed):
    app = open_page("runs", run=failed.id)
    assert app.dataframe[0].value["Size (MB)"].tolist() == [round(failed.size / 1e6, 1)]
    button(app, "Delete").click().run()
    assert any("in the trash" in item.value for item in app.toast)
    assert not failed.path.exists()
    assert "No runs yet" in said(app)
    assert "Trash: 1 deleted run, 0.0 MB" in [item.label for item in app.expander]
    assert f"Run {failed.id}" in said(app)
    button(app, "Restore").click().run()
    assert not app.exception
    assert runs.list_runs(home) == [failed]
    assert "Trash" not in " ".join(item.label for item in app.expander)
    assert "tulips" in app.subheader[0].value


def test_deleting_for_good_asks_first(home, failed):
    trash.delete(failed)
    app = open_page("runs")
    assert "This cannot be undone" in said(app)
    button(app, "Delete permanently").click().run()
    assert trash.listed(home) == []
    assert any("Deleted 1 run permanently" in item.value for item in app.toast)


def test_the_whole_trash_is_emptied_at_once(home):
    for name in ("a", "b"):
        growing = GrowingRun(home, name)
        growing.fail("x")
        trash.delete(growing.run)
    app = open_page("runs")
    button(app, "Empty it").click().run()
    assert trash.listed(home) == []


def test_a_run_that_is_back_already_is_a_sentence(home, failed):
    trash.delete(failed)
    app = open_page("runs")
    failed.path.mkdir()
    button(app, "Restore").click().run()
    assert any("already" in item.value for item in app.error)
    assert trash.find(home, failed.id)


def test_a_link_to_a_deleted_run_says_where_it_is(home, failed):
    trash.delete(failed)
    app = open_page("runs", run=failed.id)
    assert any("is in the trash" in item.value for item in app.error)


@pytest.mark.parametrize("page", ["train", "test", "runs", "dataset"])
@pytest.mark.parametrize(
    "name", ["status.json", "evaluation.json", "architecture.json", "recipe.yaml"]
)
def test_one_damaged_file_is_a_sentence_and_hides_nothing_else(home, failed, page, name):
    other = GrowingRun(home, "roses")
    other.fail("y")
    (failed.path / name).write_text('{"status": "fini')
    if name in ("evaluation.json", "architecture.json"):
        failed.update(status="finished")
        (failed.path / "inference.tflite").touch()
    app = open_page(page, run=failed.id)
    if page == "runs":
        assert other.run.id in app.dataframe[0].value["Run"].tolist()
    if page in ("runs", "train") and name != "architecture.json":
        shown = [item.value for item in (*app.error, *app.warning)]
        assert any("cannot be read" in text for text in shown), shown
