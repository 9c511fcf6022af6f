"""Who owns what is made, and who sees it."""

import hashlib
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from engine import actions, load_preset
from engine import home as homes
from engine.accounts import roles
from engine.accounts.store import AccountError
from engine.actions import log
from engine.data import datasets
from engine.data.sources import collection
from engine.errors import DatasetError
from engine.host.background import Job
from engine.jobs import jobs
from engine.predict import batches, feedback
from engine.recipe import DatasetSpec
from engine.runs import runs
from pages._ui import pictures
from tests.support.accounts import PEOPLE, add_people
from tests.support.home_of_before import unpacked
from tests.support.pictures import encode, picture

EVERYBODY = (*PEOPLE, roles.LOCAL)


@pytest.fixture
def before(tmp_path, monkeypatch):
    """A home of before accounts, where nothing is started, and its notes; then people joined."""
    home, notes = unpacked(tmp_path)
    monkeypatch.setattr(jobs, "supervise", lambda home: None)
    monkeypatch.setattr(
        Job, "start", lambda job, home, env=None, **given: homes.write_json(
            job.path, {"kind": job.kind, "parameters": given, "result": None}
        ),
    )  # fmt: skip
    monkeypatch.setenv("GRAFT_HOME", str(home))
    add_people(home)
    return home, notes


def refused(call, *arguments, **options) -> str:
    with pytest.raises(AccountError) as error:
        call(*arguments, **options)
    return str(error.value)


# -- runs ------------------------------------------------------------------------------------------


def test_a_run_belongs_to_who_made_it(before):
    home, notes = before
    first, paused = (runs.get_run(home, notes[name]) for name in ("first", "paused"))
    assert first.owner == paused.owner == roles.LOCAL
    own = actions.start(load_preset("sample", ["name=mine"]), home, "tom")
    stages = [{"name": "more", "epochs": 1}]
    extended = actions.extend(first, stages, "tess")  # anybody's model can be continued
    assert extended.recipe.continue_from == first.id
    assert [run.owner for run in (own, extended, first)] == ["tom", "tess", roles.LOCAL]
    assert own.summary()["owner"] == "tom"

    assert refused(actions.resume, paused, "tom") == (
        "to resume a run of local, the role admin is needed; ask an admin"
    )
    smaller = actions.restart_smaller(paused, 4, "ada")
    assert smaller.owner == "ada" and paused.owner == roles.LOCAL
    assert actions.resume(paused, "ada").owner == roles.LOCAL  # it is the same run
    assert "of tom" in refused(actions.stop, own, "tess") and own.status == "queued"
    actions.stop(own, "tom")
    assert own.status == "stopped"


def test_an_imported_run_belongs_to_who_imports_it_whoever_it_names(before, monkeypatch):
    home, notes = before
    foreign = runs.get_run(home, notes["first"])
    foreign.update(owner="eve")
    made = SimpleNamespace(run=foreign)
    monkeypatch.setattr("engine.imports.imports.add", lambda *args, **options: made)
    actions.import_run("x.zip", home, who="ada")
    assert foreign.owner == "ada"


def test_the_trash_shows_ones_own_runs_and_all_to_admins(before):
    home, notes = before
    own = runs.create(load_preset("sample"), home, "tom")
    own.update(status="stopped")
    actions.delete(own, "tom")
    seen = {who: {each.id for each in actions.trashed(home, who)} for who in EVERYBODY}
    both = {own.id, notes["trashed"]}
    assert seen == {"vic": set(), "tess": set(), "tom": {own.id}, "ada": both, "local": both}
    assert "ask tom" in refused(actions.restore, home, own.id, "tess")
    assert actions.restore(home, own.id, "tom").owner == "tom"


# -- datasets --------------------------------------------------------------------------------------


def test_a_dataset_belongs_to_who_first_prepared_it_and_one_of_before_to_nobody(before):
    home, notes = before
    old, new = runs.get_run(home, notes["first"]).recipe.dataset, DatasetSpec(images=123)
    actions.prepare(old, home, "tom")  # anybody may use it
    actions.start(load_preset("sample", [f"dataset={old.model_dump_json()}"]), home, "tom")
    assert datasets.owner(old, home) == roles.LOCAL
    actions.prepare(new, home, "tom")
    actions.prepare(new, home, "tess")
    assert datasets.owner(new, home) == "tom"
    for spec, who in ((old, "tom"), (new, "tess")):
        for act in (actions.forget, actions.cancel_prepare):
            assert "the role admin is needed" in refused(act, spec, home, who)
        assert "the role admin is needed" in refused(actions.decide, home, spec, "x", [], who)
    actions.forget(new, home, "tom")
    actions.start(load_preset("sample", ["dataset.images=123"]), home, "tess")
    assert datasets.owner(new, home) == "tess"  # her run prepares it
    actions.forget(old, home, "ada")
    assert datasets.state(old, home)["state"] == "missing"


def test_a_dataset_built_here_is_changed_by_its_owner_only(before):
    home, _ = before
    made = actions.create_dataset(home, "pets", None, "tom")
    files = [("cat.png", encode(picture()))]
    assert actions.add_images(home, "pets", "cat", files, who="tom")[0] == 1
    assert "ask tom" in refused(actions.add_images, home, "pets", "cat", files, who="tess")
    assert "ask tom" in refused(actions.undo_addition, home, "pets", who="tess")
    assert "ask tom" in refused(actions.decide, home, made, "x", [], "tess")
    assert datasets.owner(made, home) == "tom"
    assert len(collection.open_(home, "pets").rows()) == 1
    saved = home / homes.SAVED / "pets" / "saved.json"
    homes.write_json(saved, homes.read_json(saved) | {"owner": roles.LOCAL})
    assert "ask an admin" in refused(actions.undo_addition, home, "pets", who="tom")
    assert actions.undo_addition(home, "pets", who="ada") == 1


# -- batches and marks -----------------------------------------------------------------------------


def test_batches_are_seen_and_deleted_by_their_owner_and_admins(before):
    home, notes = before
    run = runs.get_run(home, notes["first"])
    files = [("a.png", encode(picture()))]
    own = actions.classify(home, run, files, "one", who="vic")
    old = notes["batch"]
    seen = {who: {each.key for each in actions.batches(home, run, who)} for who in EVERYBODY}
    assert seen == {
        "vic": {own.key}, "tom": set(), "tess": set(), "ada": {own.key, old},
        "local": {own.key, old},
    }  # fmt: skip
    assert actions.batch(home, own.key, "vic").title == "one"
    for key in (own.key, old):
        assert "another user" in refused(actions.batch, home, key, "tom")
        for act in (actions.delete_batch, actions.stop_batch):
            assert "the role admin is needed" in refused(act, batches.open_(home, key), home, "tom")
    actions.delete_batch(own, home, "vic")
    assert [each.key for each in batches.listed(home, run)] == [old]


@pytest.fixture
def marked(before):
    """A run with marks of tom and vic on one image, one of before accounts on another."""
    home, notes = before
    run = runs.get_run(home, notes["first"])
    shared, old = (encode(picture(seed=seed)) for seed in (1, 2))
    feedback.mark(run, "old.png", old, "cat", "cat")
    path = home / homes.FEEDBACK / run.id / "marks.json"
    rows = [{k: v for k, v in row.items() if k != "owner"} for row in homes.read_json(path)]
    homes.write_json(path, rows)  # as versions without accounts wrote it
    actions.mark(run, "a.png", shared, "cat", "dog", who="tom")
    actions.mark(run, "a.png", shared, "cat", "cow", who="vic")
    return run, shared, old


def test_marks_are_seen_and_deleted_by_their_owner_and_admins(marked):
    run, shared, old = marked
    seen = {who: [row["label"] for row in actions.marks(run, who)] for who in EVERYBODY}
    everything = ["cat", "dog", "cow"]
    assert seen == {
        "vic": ["cow"], "tom": ["dog"], "tess": [], "ada": everything, "local": everything,
    }  # fmt: skip
    assert feedback.label_of(run, shared, "vic") == "cow"
    assert feedback.label_of(run, shared, "tess") is None
    content = hashlib.sha256(shared).hexdigest()
    assert "ask vic" in refused(actions.unmark, run, content, "vic", "tom")
    actions.unmark(run, content, "tom", "tom")
    assert [row["label"] for row in actions.marks(run)] == ["cat", "cow"]
    assert feedback.image_of(run, content) == shared  # vic has marked it too
    actions.unmark(run, content, "vic", "ada")
    with pytest.raises(DatasetError):
        feedback.image_of(run, content)


def test_collecting_takes_ones_own_marks_only(marked):
    run, _, _ = marked
    spec, added, refusals = actions.collect(run, run.home, "more", "tom")
    assert (added, refusals) == (1, [])
    assert [row["label"] for row in collection.open_(run.home, "more").rows()] == ["dog"]
    assert datasets.owner(spec, run.home) == "tom"
    assert [row["label"] for row in actions.marks(run)] == ["cat", "cow"]


def test_pictures_of_batches_and_marks_are_sent_to_who_may_see_them(marked, before):
    home, notes = before
    run, shared, _ = marked
    key = notes["batch"]
    routes = [
        Route("/answers/{key}/{row}", pictures.of_batch),
        Route("/marks/{run}/{content}", pictures.of_mark),
    ]
    client = TestClient(Starlette(routes=routes))
    content = hashlib.sha256(shared).hexdigest()
    for path, seeing in (
        (f"/marks/{run.id}/{content}", {"tom", "vic", "ada"}),
        (f"/answers/{key}/0", {"ada"}),
    ):
        for who in (*PEOPLE, "gone", None):
            headers = {"x-graft-user": who} if who else {}
            code = client.get(path, headers=headers).status_code
            assert code == (200 if who in seeing else 404), (path, who)


# -- the log ---------------------------------------------------------------------------------------


def test_the_log_can_be_read_back_the_latest_first(before):
    home, _ = before
    actions.change_settings(home, "ada", runs_per_device=2)
    refused(actions.change_settings, home, "tom", runs_per_device=3)
    actions.create_dataset(home, "pets", None, "tom")
    said = [(row["who"], log.in_words(row)) for row in log.entries(home)]
    assert said == [
        ("tom", "create a dataset: name pets"),
        (
            "tom",
            "change settings: runs_per_device 3 (refused: to change settings, the role admin is "
            "needed; tom has the role trainer)",
        ),
        ("ada", "change settings: runs_per_device 2"),
    ]
    assert [row["who"] for row in log.entries(home, who="ada")] == ["ada"]
    path = home / homes.AUDIT
    path.write_bytes(path.read_bytes()[:-10])  # as on a full disk
    assert [row["who"] for row in log.entries(home, last=2)] == ["", "tom"]
    assert log.entries(home)[0]["action"] == "(this line is damaged)"
