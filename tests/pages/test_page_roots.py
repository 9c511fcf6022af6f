"""What an address or a text names of the host's files: pages say one sentence and read nothing."""

import json
import sys

import pytest

from engine import load_preset, roots
from engine.data import prepare_worker
from engine.recipe import DatasetSpec
from engine.runs import runs
from tests.support.browser import chromium, server
from tests.support.pages import button, open_page, said
from tests.support.pictures import encode, picture

READ = []
"""What was opened or listed while `watched` holds a folder."""
watched = []


def _hook(event, arguments):
    if watched and event in ("open", "os.scandir", "os.listdir"):
        if any(str(arguments[0]).startswith(folder) for folder in watched):
            READ.append((event, arguments[0]))


sys.addaudithook(_hook)  # PEP 578: they stay until the process ends


@pytest.fixture
def outside(tmp_path, own_home, monkeypatch):
    """A folder of images that pages may not read; nothing in it is opened."""
    monkeypatch.setenv("GRAFT_HOME", str(own_home))
    folder = tmp_path / "outside" / "pets"
    for number, label in enumerate(("cat", "dog")):
        (folder / label).mkdir(parents=True)
        for i in range(6):
            (folder / label / f"{i}.png").write_bytes(encode(picture(seed=10 * number + i)))
    watched.append(str(folder.parent))
    yield folder
    watched.clear()
    assert READ == []


def sets(path, source="folder"):
    return [f"dataset.source={source}", f"dataset.path={json.dumps(str(path))}"]


@pytest.mark.parametrize("source", ["folder", "zip"])
@pytest.mark.parametrize("where", ["dataset", "configure", "train"])
def test_an_address_outside_says_the_same_whether_something_is_there(
    allowed, outside, source, where
):
    weights = f"backbone.weights={outside / 'x.keras'}"
    texts = []
    for name in ("pets", "none"):
        given = sets(outside.with_name(name), source)
        app = open_page(where, preset="sample", set=[*given, weights])
        assert not app.exception
        texts.append(said(app).replace(name, "it"))
        if where == "dataset":
            assert f"only folders and files below {allowed} for a page" in texts[-1]
        elif where == "train":
            button(app, "Start training").click().run()
            assert f"only folders and files below {allowed} for a page" in said(app)
    assert texts[0] == texts[1]


def test_every_button_of_the_dataset_page_is_refused(allowed, outside):
    app = open_page("dataset", preset="sample", set=sets(outside))
    for label in ("Use this dataset", "Try again"):
        again = [item for item in app.button if item.label == label]
        for item in again:
            item.click().run()
            assert not app.exception
            assert f"below {allowed}" in said(app)
    for name in ("dataset_view",):
        app.session_state[name] = "Images"
        assert "Classes" not in said(app.run())


def test_a_recipe_given_as_text_is_refused_like_an_address(allowed, outside):
    app = open_page("configure")
    text = load_preset("sample", sets(outside)).to_yaml()
    next(item for item in app.text_area if item.label == "Recipe").set_value(text).run()
    button(app, "Apply the text").click().run()
    assert not app.exception
    app.switch_page("dataset.py").run()
    assert f"below {allowed}" in said(app)


def test_a_run_of_a_shell_on_images_outside_is_shown_without_them(allowed, outside, own_home):
    spec = DatasetSpec(source="folder", path=str(outside))
    roots.restore(None)
    watched.clear()
    prepare_worker.ingest(spec, own_home)
    watched.append(str(outside.parent))
    run = runs.create(load_preset("sample", sets(outside)), own_home)
    run.update(status="paused")
    roots.restore({"home": str(own_home), "below": [str(allowed)]})
    for where in ("runs", "train"):
        app = open_page(where, run=run.id)
        assert not app.exception and "pets" in said(app)
        button(app, "Resume from the start").click().run()
        assert f"below {allowed}" in said(app) and run.status == "paused"
    button(open_page("runs", run=run.id), "Use its recipe").click().run()
    app = open_page("dataset", preset="sample", set=sets(outside))
    assert f"below {allowed}" in said(app)


def test_the_settings_on_runs_say_what_pages_may_read(allowed, outside):
    assert f"Folders that pages may read datasets and weights from: {allowed}." in said(
        open_page("runs")
    )


@pytest.mark.browser
@pytest.mark.skipif(not chromium(), reason="needs a browser: apt-get install chromium")
def test_the_app_restricts_its_pages(outside, own_home, tmp_path, page, monkeypatch):
    monkeypatch.setenv("GRAFT_ALLOWED_ROOTS", str(tmp_path / "photos"))
    address = "dataset?preset=sample&set=dataset.source=folder&set=dataset.path="
    with server(own_home, tmp_path / "log") as (host, _):
        for path in (outside, outside.with_name("none"), "/etc"):
            page.goto(f"{host}/{address}{path}")
            page.wait_for_timeout(6000)
            print(page.inner_text("body")[-900:])
