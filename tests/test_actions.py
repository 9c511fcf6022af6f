"""The gate of all actions: what the engine does, and what the log says about it."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine import actions
from engine import home as homes
from engine.accounts import users
from engine.actions import log as audit
from engine.data import curation, datasets
from engine.errors import GraftError, RunError
from engine.host import settings
from engine.jobs import jobs
from engine.recipe import load_preset
from engine.runs import queue, runs, trash
from tests.support.cli import graft
from tests.support.home_of_before import unpacked
from tests.support.pages import button, open_page

PASSWORD = "correct horse battery"


@pytest.fixture
def home(own_home, monkeypatch):
    monkeypatch.setattr(jobs, "supervise", lambda home: None)  # nothing is trained
    users.add(own_home, "ada", "admin", PASSWORD)
    return own_home


def log(home):
    """Lines of the log, without their times."""
    lines = [json.loads(line) for line in (home / homes.AUDIT).read_text().splitlines()]
    assert all(line.pop("t") > 0 for line in lines)
    return lines


def test_a_life_of_a_run_is_logged_with_who_asked(home):
    first = actions.start(load_preset("sample", ["name=first"]), home)
    second = actions.start(load_preset("sample", ["name=second"]), home, who="ada")
    actions.move(second, 1)
    assert queue.waiting(home) == [second.id, first.id]
    actions.pause(first)
    assert actions.resume(first, who="ada") == first and first.status == "queued"
    actions.stop(first)
    actions.delete(first, who="ada")
    assert actions.restore(home, first.id) == first
    actions.delete(first)
    assert actions.empty_trash(home, who="ada")[0] == 1 and not trash.listed(home)
    actions.kill(second)
    smaller = actions.restart_smaller(second, 8)
    assert smaller.recipe.batch_size == 8
    said = [(line["who"], line["action"], line.get("run")) for line in log(home)]
    assert said == [
        ("local", "start a run", first.id),
        ("ada", "start a run", second.id),
        ("local", "move a run", second.id),
        ("local", "pause a run", first.id),
        ("ada", "resume a run", first.id),
        ("local", "stop a run", first.id),
        ("ada", "delete a run", first.id),
        ("local", "restore a run", first.id),
        ("local", "delete a run", first.id),
        ("ada", "empty the trash", None),
        ("local", "kill a run", second.id),
        ("local", "restart a run", smaller.id),
    ]


def test_what_the_engine_refuses_is_logged_with_its_reason(home):
    run = runs.create(load_preset("sample"), home)
    run.update(status="finished")
    with pytest.raises(RunError, match="nothing to stop") as refused:
        actions.stop(run)
    with pytest.raises(GraftError, match="from 1 to 16"):
        actions.change_settings(home, runs_per_device=99)
    first, second = log(home)
    assert (first["run"], first["refused"]) == (run.id, str(refused.value))
    assert second["changes"] == {"runs_per_device": 99} and "99 was given" in second["refused"]


def test_settings_and_decisions_about_images(tmp_path):
    home, notes = unpacked(tmp_path)
    users.add(home, "ada", "admin", PASSWORD)
    actions.change_settings(home, runs_per_device=2)
    assert settings.get(home)["runs_per_device"] == 2
    spec = runs.get_run(home, notes["first"]).recipe.dataset
    actions.prepare(spec, home)  # it is ready
    opened = datasets.open_dataset(spec, home)
    made = curation.decisions(opened, [5], "exclude")
    before = curation.current(home, spec)
    changed = actions.decide(home, spec, "leave out: 1 image", made, who="ada")
    assert curation.current(home, spec) == changed != before
    assert actions.undo(home, spec) == before
    assert actions.undo(home, spec, again=True) == changed
    actions.forget(spec, home)
    assert datasets.state(spec, home)["state"] == "missing"
    assert [(line["who"], line["action"]) for line in log(home)] == [
        ("local", "change settings"),
        ("local", "prepare a dataset"),
        ("ada", "decide about images"),
        ("local", "undo a decision"),
        ("local", "redo a decision"),
        ("local", "delete a prepared dataset"),
    ]
    assert all(line["dataset"]["name"] == "shapes" for line in log(home)[1:])


def test_the_log_starts_again_when_it_is_full_and_keeps_the_one_before(home, monkeypatch):
    monkeypatch.setattr(audit, "MOST", 1000)

    def change(number):
        actions.change_settings(home, min_free_mb=number)

    with ThreadPoolExecutor(4) as pool:  # several people at once
        list(pool.map(change, range(100)))
    sizes = [(home / name).stat().st_size for name in ("audit.jsonl", "audit.1.jsonl")]
    assert all(0 < size < 1200 for size in sizes)
    assert all(line["action"] == "change settings" for line in log(home))


def test_a_long_text_does_not_push_others_out_of_the_log(home):
    users.add(home, "vera", "viewer", PASSWORD)
    actions.change_settings(home, runs_per_device=2)
    for _ in range(3):
        with pytest.raises(GraftError):
            actions.create_dataset(home, "x" * (audit.MOST + 1), who="vera")
    first, *rest = log(home)
    assert first["action"] == "change settings"
    assert [line["name"] for line in rest] == ["x" * audit.LONGEST + "…"] * 3


def test_a_log_that_cannot_be_written_stops_no_action(home, capsys):
    (home / homes.AUDIT).mkdir()  # as on a full disk, opening it fails
    actions.change_settings(home, runs_per_device=2)
    assert settings.get(home)["runs_per_device"] == 2
    assert "change settings is not in the log" in capsys.readouterr().err


def test_commands_pass_the_gate(home):
    run = runs.create(load_preset("sample"), home)
    run.update(status="paused")
    for command in (
        ("settings", "runs_per_device=2"),
        ("delete", run.id),
        ("restore", run.id),
        ("stop", run.id),
    ):
        graft(*command, home=home)
    said = [(line["action"], line.get("run"), "refused" in line) for line in log(home)]
    assert said == [
        ("change settings", None, False),
        ("delete a run", run.id, False),
        ("restore a run", run.id, False),
        ("stop a run", run.id, True),
    ]


def test_pages_pass_the_gate(home, monkeypatch):
    monkeypatch.setenv("GRAFT_HOME", str(home))
    users.remove(home, "ada")  # without accounts, whoever opens the pages is "local"
    run = runs.create(load_preset("sample", ["name=waiting"]), home)
    queue.add(home, run.id)
    app = open_page("train", run=run.id)
    button(app, "Cancel").click().run()
    assert run.status == "stopped"
    assert [(line["who"], line["action"], line["run"]) for line in log(home)] == [
        ("local", "stop a run", run.id)
    ]
