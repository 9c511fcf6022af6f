"""Names that people gave, full of mark-up and addresses elsewhere: pages show them as they are."""

import contextlib
import json
import re
import shutil
import time
import urllib.parse

import filelock
import numpy as np
import pytest
from google.protobuf.message import Message
from playwright.sync_api import expect

from engine import home as homes
from engine import load_preset
from engine.accounts import users
from engine.charts import dataset as charts_dataset
from engine.charts import evaluation, training
from engine.charts import freezing as charts_freezing
from engine.data import datasets, prepare_worker
from engine.host import background, manifest, words
from engine.jobs import jobs
from engine.models import backbones, freezing
from engine.predict import batches
from engine.recipe import DatasetSpec, Recipe
from engine.runs import checkpoint, files, queue, runs, trash
from pages._ui import common, who
from tests.support.browser import GrowingRun, chromium, server
from tests.support.pages import as_read, open_page
from tests.support.pictures import encode, picture

PICTURE = "![x](http://evil.example/p)"
# With a character that reverses the text after it, one that rings, and those of a terminal.
NAME = f"{PICTURE} :red[r] <b>b</b> $x$ [l](//evil) `c`\u202e:material/x:"
LONG = f"{NAME}\x07\x1b[31m\n# x " + 20 * NAME
FOLDER = ":red[r] <b>b $x$ \u202e\x07![x](p.png)"  # a part of a path has no slash
CLASS = "![x](p.png) <b>*c* `d`\u2066"
STAGE = "1. __s__ www.evil.example"
SHOWN, FOLDER_SHOWN, CLASS_SHOWN = map(words.printable, (NAME, FOLDER, CLASS))
RAW = re.compile(
    r"!\[x\]\(|:red\[r\]|<b>|\$x\$|(?<!!)\[l\]\(|`[cd]`|\*c\*|__s__|://evil|www\.evil"
    r"|:material/x|^# x",
    re.MULTILINE,
)
OURS = re.compile(
    r"/answers/[0-9a-f]{16}/\d+$|https://(www\.tensorflow\.org|keras\.io|arxiv\.org)/"
    r"|this repository$"
)
"""Addresses in tables."""
NOT_MARKDOWN = {
    ("BidiComponent", "json"),
    ("Code", "code_text"),
    ("Image", "alt"),
    ("Selectbox", "id"),
    ("Selectbox", "options"),
    ("Selectbox", "raw_value"),
    ("TextArea", "default"),
    ("TextInput", "default"),
}
"""What Streamlit shows without reading it as Markdown."""
AS_GIVEN = {("Code", "code_text"), ("TextArea", "default"), ("TextInput", "default")}
"""What shows text character by character, to read or to edit it."""


def hostile_recipe(folder) -> dict:
    """The sample's recipe with such names, on a folder with such names."""
    recipe = load_preset("sample").to_dict() | {"name": NAME, "description": LONG[:2000]}
    recipe["dataset"] |= {"source": "folder", "path": str(folder)}
    recipe["stages"][1]["name"] = STAGE
    return Recipe.from_dict(recipe).to_dict()


def renamed(run, recipe):
    """Puts such names into all that a run has written."""
    for path in [*run.path.glob("*.json*"), *run.path.glob("examples/*.json")]:
        text = path.read_text()
        for word, name in (("balloon", CLASS), ("circle", CLASS), ("unfrozen", STAGE)):
            text = text.replace(json.dumps(word), json.dumps(name))
        path.write_text(text)
    (run.path / "recipe.yaml").write_text(json.dumps(recipe))
    if (run.path / "reference.npz").exists():
        with np.load(run.path / "reference.npz") as stored:
            values = dict(stored)
        values["classes"] = np.array([CLASS, *values["classes"][1:]])
        np.savez(run.path / "reference.npz", **values)
    if (run.path / files.MANIFEST).exists():
        manifest.write(run.path / files.MANIFEST, files.lasting(run.path))


@pytest.fixture(scope="module")
def named(trained_run, tmp_path_factory):
    """(home, {status: run}): one run of each status, on a folder of images, all with such names."""
    home = homes.home(tmp_path_factory.mktemp("named"))
    folder = tmp_path_factory.mktemp("images") / FOLDER
    for label in (CLASS, "plain"):
        (folder / label).mkdir(parents=True)
        for seed in range(12):
            data = encode(picture(seed=seed + 100 * (label == CLASS)))
            (folder / label / f"{seed} {PICTURE[:6]}.png").write_bytes(data)
    recipe = hostile_recipe(folder)
    prepare_worker.ingest(DatasetSpec.model_validate(recipe["dataset"]), home)
    kept = shutil.ignore_patterns("manifest.json")  # of the names that it has now
    shutil.copytree(trained_run.path, home / "runs" / trained_run.id, ignore=kept)
    found = {"finished": runs.get_run(home, trained_run.id)}
    growing = GrowingRun(home)
    growing.grow(50)
    growing.log.write("warning", text=f"A warning about {LONG}")
    found["running"] = growing.run
    for status in ("queued", "failed", "interrupted", "paused", "stopped"):
        run = runs.create(load_preset("sample"), home)
        at = {"stage": 1, "epoch": 2, "batch": 0, "step": 9, "ended": False}
        checkpoint.Checkpoints(run.path).save(at, {"w": np.zeros(1)})
        error = None if status in ("queued", "paused") else f"it broke at {LONG}"
        run.update(status=status, error=error, kept_stage=STAGE, went_on_as=found["running"].id)
        found[status] = run
    (found["stopped"].path / "inference.tflite").write_bytes(b"stands for a model")
    queue.add(home, found["queued"].id)
    for run in found.values():
        renamed(run, recipe)
    images = [(f"{CLASS}/{number} {NAME}.png", encode(picture(seed=number))) for number in range(6)]
    batch = batches.start(home, found["finished"], images, NAME)
    background.wait_for(batch.state)
    gone = runs.create(load_preset("sample"), home)
    renamed(gone, recipe)
    gone.update(status="failed")
    trash.delete(gone)
    with filelock.FileLock(home / jobs.LOCK):  # nothing is started
        yield home, {status: runs.get_run(home, run.id) for status, run in found.items()}
    found["running"].update(status="failed", ended=time.time())


@pytest.fixture
def opened(named, monkeypatch):
    """Opens a page of that home."""
    monkeypatch.setenv("GRAFT_HOME", str(named[0]))
    return open_page


def texts(app):
    """(element, field, text) of every text that a page sends to the browser."""
    return _of_block(app._tree)  # with dialogs, which have no name of their own


def _of_block(block):
    for node in block.children.values():
        if isinstance(getattr(node, "proto", None), Message):
            yield from _of_message(node.proto, type(node.proto).__name__)
        if hasattr(node, "children"):
            yield from _of_block(node)


def _of_message(message, kind):
    for field, value in message.ListFields():
        for each in value if field.is_repeated else [value]:
            if isinstance(each, str):
                yield kind, field.name, each
            elif isinstance(each, Message):
                yield from _of_message(each, type(each).__name__)


def check(app, *shown):
    """Nothing that Markdown would read is left of the names, and they are there."""
    assert not app.exception
    every = list(texts(app))
    read = [row for row in every if row[:2] not in NOT_MARKDOWN]
    assert not [row for row in read if RAW.search(row[2])]
    assert not [row for row in every if row[:2] not in AS_GIVEN and unseen(row[2])]
    for frame in app.dataframe:
        assert not unseen(str(frame.value.to_dict("split")))
        check_links(frame)
    everything = "\n".join(as_read(text) for *_, text in read)
    for name in shown:
        assert name in everything


def unseen(text):
    """Characters that cannot be seen or that turn the text around, but for those of ours."""
    with contextlib.suppress(ValueError):
        text = json.dumps(json.loads(text), ensure_ascii=False)  # what a component is given
    return [c for c in text if c not in "\n\u2060" and words.printable(c) != c]


def check_links(frame):
    """No address in a table comes from a name."""
    for column, config in json.loads(frame.proto.columns or "{}").items():
        if (config.get("type_config") or {}).get("type") in ("link", "image"):
            assert all(map(OURS.match, frame.value[column]))


def view(app, key, name):
    """The page with one of its tabs open."""
    app.session_state[key] = name
    return app.run()


# -- the pages ------------------------------------------------------------------------------------


def test_the_way_to_look_finds_a_name_that_is_not_escaped(opened, named, monkeypatch):
    monkeypatch.setattr(common, "plain", str)
    with pytest.raises(AssertionError):
        check(opened("runs", run=named[1]["failed"].id))


@pytest.mark.parametrize("where", ["train", "runs"])
def test_a_run_of_any_status_shows_its_names_as_they_are(opened, named, where):
    for run in named[1].values():
        app = opened(where, run=run.id)
        check(app, SHOWN, FOLDER_SHOWN)
        stages = {"paused": f"({STAGE})", "interrupted": f"({STAGE})", "stopped": f"stage {STAGE} "}
        if run.status in stages:
            check(app, stages[run.status])
    assert f"A warning about {SHOWN}" in "".join(
        as_read(item.value) for item in opened(where, run=named[1]["running"].id).warning
    )


def test_every_view_of_a_run_shows_names_as_they_are(opened, named):
    app = opened("runs", run=named[1]["finished"].id)
    for name in ("Charts", "Confusion matrix", "Each class", "Stages", "Recipe", "Log"):
        check(view(app, "run_view", name), SHOWN)


def test_answers_show_names_of_classes_as_they_are(opened, named):
    app = opened("test", run=named[1]["finished"].id)
    for name in ("Confidence", "Marked images", "Export", "Try it"):
        check(view(app, "test_view", name), CLASS_SHOWN)
    control = next(item for item in app.button_group if item.label == "Images from")
    app = control.set_value("Earlier batches").run()
    check(app, CLASS_SHOWN, SHOWN.rsplit("/", 1)[-1])
    for way in ("Table", "Grid"):
        check(next(b for b in app.button_group if b.label == "As").set_value(way).run())
    check(control.set_value("Test images of this run").run(), f"#### {CLASS_SHOWN}")
    look = next(item for item in app.button if item.label == "Look closer")
    check(look.click().run(), f"Yes: {CLASS_SHOWN}")


def test_a_link_with_such_names_is_shown_as_it_is(opened, named):
    recipe = named[1]["finished"].recipe
    sets = [f"name={NAME}", f"description={LONG[:2000]}", f"stages.1.name={STAGE}"]
    sets += ["dataset.source=folder", f"dataset.path={recipe.dataset.path}"]
    check(opened("configure", preset="sample", set=sets), SHOWN, FOLDER_SHOWN, f"Stage 2: {STAGE}")
    app = opened("train", preset="sample", set=sets, run="none")
    check(app, FOLDER_SHOWN)
    app = opened("dataset", preset="sample", set=sets)
    for name in ("Images", "Findings", "Map", "Counts and sizes", "Decisions"):
        check(view(app, "dataset_view", name))
    check(view(app, "dataset_view", "What the network will see"), CLASS_SHOWN)


@pytest.mark.parametrize("where", ["dataset", "configure", "train"])
def test_a_bad_link_is_quoted_as_it_is(opened, where):
    sets = [f"name={2 * NAME}", f"backbone.name={NAME}"]
    check(opened(where, preset="sample", set=sets), SHOWN)
    check(opened("runs", run=PICTURE), PICTURE)


def test_addresses_of_users_and_the_log_of_actions_are_text(own_home, monkeypatch):
    monkeypatch.setenv("GRAFT_HOME", str(own_home))
    monkeypatch.setattr(who, "name", lambda: "ada")
    email = "![x](http://evil.example/p)<b>\u202e@x"
    users.add(own_home, "ada", "admin", email=email)
    entry = {"t": 1.0, "who": NAME, "action": "start a run", "recipe": LONG, "refused": LONG}
    (own_home / homes.AUDIT).write_text(json.dumps(entry) + "\n")
    app = open_page("runs")
    check(app, words.printable(email))
    check(view(app, "audit", True))
    assert [list(frame.value.get("Who", ())) for frame in app.dataframe] == [[SHOWN]]


def test_charts_show_names_as_they_are(named):
    home, found = named
    run = found["finished"]
    dataset = datasets.open_dataset(run.recipe.dataset, home)
    places = np.zeros((len(dataset), 2))
    rows = freezing.freeze_map(backbones.blocks("GraftSmall"), run.recipe.stages, 10)
    for figure in (
        training.planned_learning_rate([(CLASS, [0.1, 0.2])], 1),
        evaluation.confusion_matrix(np.eye(len(run.classes)), run.classes),
        evaluation.per_class(run.evaluation["test"]["per_class"]),
        charts_freezing.freeze_map(rows, [CLASS, STAGE]),
        evaluation.top_k([(CLASS, 0.9)]),
        charts_dataset.class_counts(dataset),
        charts_dataset.embedding_map(dataset, places, "class"),
    ):
        figure.update_traces(customdata=None)  # data for the page, never drawn
        read = str(figure.to_dict())
        assert not unseen(figure.to_json())
        assert "&lt;b&gt;*c" in read
        assert "<b>*c" not in read


# -- the browser ----------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.skipif(not chromium(), reason="needs a browser: apt-get install chromium")
def test_no_page_asks_another_host_or_links_to_it(named, tmp_path, page):
    home, found = named
    asked, refused = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on(
        "console",
        lambda said: refused.append(said.text) if "Content Security" in said.text else None,
    )
    running, finished = found["running"].id, found["finished"].id
    draft = urllib.parse.quote(f"description={NAME}")
    joined = re.sub(r":(?=//|material)", ":\u2060?", re.escape(SHOWN))
    shown = re.compile(joined)
    with server(home, tmp_path / "log") as (address, _):
        for path, drawn in (
            (f"train?run={running}", "Loss (lower is better)"),
            (f"runs?run={finished}", "Loss (lower is better)"),
            (f"test?run={finished}", None),
            (f"configure?preset=sample&set={draft}", None),
        ):
            page.goto(f"{address}/{path}")
            expect(page.locator("body")).to_contain_text(shown, timeout=60_000)
            if drawn:
                chart = page.get_by_role("img", name=drawn).locator(".main-svg").first
                expect(chart).to_be_visible(timeout=60_000)
            outside = "[href*=evil], [src*=evil], [*|href*=evil]"
            assert page.locator(outside).count() == 0
    assert asked and not refused  # nothing of Graft's own needs what its pages may not do
    own = re.compile(r"(http|ws)://127\.0\.0\.1:|data:|blob:")
    assert not [url for url in asked if not own.match(url)]
