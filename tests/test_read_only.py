"""A home that can only be read: it is looked at and predicted from, and nothing in it changes."""

import os
import shutil
import sqlite3
import urllib.request
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest

from engine import home as homes
from engine.errors import GraftError, ReadOnlyHome
from engine.jobs import jobs
from engine.runs import queue, runs
from tests.support.browser import server
from tests.support.cli import graft
from tests.support.pages import as_read, from_source, open_page, said
from tests.support.pictures import encode, picture
from tests.support.rights import read_only, without_rights

SENTENCE = "is read-only, so nothing can be started, changed or deleted; set GRAFT_HOME"


@pytest.fixture
def still(own_home, trained_run):
    """A home with a finished run, its dataset, a queue and one more run that waits, read-only."""
    shutil.copytree(trained_run.path, own_home / "runs" / trained_run.id)
    datasets = trained_run.home / "datasets"
    shutil.copytree(datasets, own_home / "datasets", dirs_exist_ok=True)
    waiting = runs.create(trained_run.recipe, own_home)
    queue.add(own_home, waiting.id)
    waiting.update(creator=None)
    (own_home / "photo.png").write_bytes(encode(picture()))
    read_only(own_home)
    return own_home


def contents(home) -> dict[str, float]:
    """Each file with the time of its last change."""
    return {str(path): path.stat().st_mtime_ns for path in Path(home).rglob("*")}


READING = (
    "datasets", "presets", "runs --json", "show {run}", "predict {run} {home}/photo.png --json",
    "evaluate {run}", "evaluate {run} --json", "queue --json", "trash", "settings", "cache",
    "backbones", "recipe",
)  # fmt: skip
WRITING = (
    "train sample", "add pets --label cat {home}/photo.png", "preflight sample --again",
    "find-rate sample", "inspect sample", "stop {waiting}", "pause {waiting}", "resume {run}",
    "continue {run} --epochs 1", "queue-move {waiting} 1", "delete {run}", "restore {run}",
    "trash --empty", "calibrate {run}", "import {home}/runs/{run}", "settings runs_per_device=2",
    "cache --clear", "cache --limit 3", "export {run} --format keras --again",
    "curate sample --undo 0",
)  # fmt: skip


def asked(home, run, commands):
    """(command, exit code, standard output, standard error) of commands without the right to write
    to the home."""
    (waiting,) = queue.waiting(home)
    names = {"home": home, "run": run.id, "waiting": waiting}

    def ask():
        done = [graft(*line.format(**names).split(), home=home) for line in commands]
        return [(c, d.returncode, d.stdout, d.stderr) for c, d in zip(commands, done, strict=True)]

    return without_rights(ask)


def test_everything_can_be_looked_at(still, trained_run):
    before = contents(still)
    answers = asked(still, trained_run, READING)
    assert [command for command, code, _, said in answers if code or "error" in said] == []
    shown = {command: out for command, _, out, _ in answers}
    assert trained_run.id in shown["runs --json"] and '"waiting"' in shown["queue --json"]
    assert '"probability"' in shown["predict {run} {home}/photo.png --json"]
    assert contents(still) == before


def test_what_would_write_says_one_sentence(still, trained_run):
    before = contents(still)
    for command, code, out, errors in asked(still, trained_run, WRITING):
        assert (code, out) == (2, ""), command
        last = errors.strip().splitlines()[-1]
        assert last.startswith(f"error: Graft's home {still} {SENTENCE}"), (command, last)
        assert "Traceback" not in errors, command
    assert contents(still) == before


def test_code_that_asks_the_engine_gets_the_same_sentence(still, trained_run):
    def ask():
        run, found = runs.get_run(still, trained_run.id), []
        for act in (
            lambda: jobs.start(run.recipe, still),
            lambda: queue.add(still, run.id),
        ):
            with pytest.raises(ReadOnlyHome) as caught:
                act()
            found.append(str(caught.value))
        jobs.supervise(still)  # nobody to look after
        return found

    assert all(SENTENCE in said for said in without_rights(ask))
    assert not (still / homes.SUPERVISOR_LOG).exists()


def opened(home, *pages):
    """(errors, notes, everything else) that are written on each page, opened without the right to
    write to the home.

    Args:
        home: Graft's home.
        pages: (name, parameters of the address, what to do there or None).
    """

    def ask():
        found = []
        with mock.patch.dict(os.environ, {"GRAFT_HOME": str(home)}):
            for name, query, act in pages:
                app = open_page(name, **query)
                if act:
                    act(app)
                assert not app.exception, app.exception
                errors, notes = ([as_read(x.value) for x in kind] for kind in (app.error, app.info))
                found.append((errors, notes, said(app)))
        return found

    return without_rights(ask)


def test_pages_show_everything_with_one_notice_and_classify(still, trained_run):
    before, run = contents(still), {"run": trained_run.id}
    pages = (
        ("dataset", {}, None, "600"),
        ("train", run, None, "Finished"),
        ("test", run, lambda app: from_source(app, "Test images of this run"), "%"),
        ("runs", run, None, "Finished"),
    )
    shown = opened(still, *(page[:3] for page in pages))
    for (name, _, _, content), (errors, notes, text) in zip(pages, shown, strict=True):
        assert errors == [] and content in text, name
        assert [SENTENCE in note for note in notes].count(True) == 1, name
    assert contents(still) == before


def click(key):
    return lambda app: next(each for each in app.button if each.key == key).click().run()


@pytest.mark.parametrize(
    ("name", "key", "of_run"),
    [
        ("train", "start", False),
        ("runs", "delete_sure", True),
        ("runs", "cancel_run", None),
    ],
)
def test_a_click_that_would_write_says_the_sentence(still, trained_run, name, key, of_run):
    before, (waiting,) = contents(still), queue.waiting(still)
    query = {} if of_run is False else {"run": trained_run.id if of_run else waiting}
    act = click(key)
    if name == "train":  # the page opens with the run that waits

        def act(app):
            click("again")(app)
            click(key)(app)

    ((errors, _, _),) = opened(still, (name, query, act))
    assert len(errors) == 1 and SENTENCE in errors[0]
    assert contents(still) == before


def test_the_server_starts_on_it(still, tmp_path):
    def ask():
        with server(still, tmp_path / "server.log") as (address, _):
            return urllib.request.urlopen(address, timeout=30).status

    before = contents(still)
    assert without_rights(ask) == 200
    assert contents(still) == before
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def test_the_queue_is_read_with_its_latest_changes(own_home):
    """A log beside the file has what the file itself does not have yet."""
    queue.add(own_home, "first")
    with closing(sqlite3.connect(own_home / homes.QUEUE)) as other:  # keeps the log there
        other.execute("SELECT * FROM waiting").fetchall()
        queue.add(own_home, "second")
        assert (own_home / f"{homes.QUEUE}-wal").stat().st_size
        read_only(own_home)
        assert without_rights(lambda: queue.waiting(own_home)) == ["first", "second"]


def test_a_folder_that_is_no_home_is_not_taken_for_one(tmp_path):
    read_only(tmp_path)

    def ask():
        with pytest.raises(GraftError, match="set GRAFT_HOME to a folder you can write to") as no:
            homes.home(tmp_path)
        return str(no.value)

    assert f"cannot use its home {tmp_path}" in without_rights(ask)


def test_a_home_that_may_not_be_read_is_not_taken_for_an_empty_one(own_home):
    (own_home / homes.RUNS).chmod(0)

    def ask():
        done = graft("runs", home=own_home)
        return done.returncode, done.stderr

    code, said = without_rights(ask)
    (own_home / homes.RUNS).chmod(0o755)
    assert code == 2 and said.startswith(f"error: Graft cannot use its home {own_home}")
