"""Names full of what a terminal would obey, and of Rich's mark-up: commands print them as text."""

import io
import re

import pytest
from rich.console import Console

from engine import load_preset
from engine.cli import terminal
from engine.data import prepare_worker
from engine.host import words
from engine.recipe import DatasetSpec
from engine.runs import queue, runs, trash
from engine.runs.events import EventLog
from tests.support.cli import graft
from tests.support.pictures import encode, picture

LINK = "\x1b]8;;http:evil\x1b\\"
NAME = f"{LINK}[link=http:e]x[/link] [red]r[/] :smile: \u202e\x07\n\x9b2J"
FILE = NAME.replace("/", "|")
SHOWN = words.printable(NAME)


@pytest.fixture
def home(own_home, tmp_path):
    """Runs, a queue, a trash and a dataset, with such names."""
    recipe = load_preset("sample").model_copy(update={"name": NAME, "description": NAME})
    for status in ("failed", "paused", "queued"):
        run = runs.create(recipe, own_home)
        run.update(status=status, error=f"it broke at {NAME}")
        (run.path / "worker.log").write_text(NAME)
        if status == "queued":
            queue.add(own_home, run.id)
    gone = runs.create(recipe, own_home)
    gone.update(status="failed")
    trash.delete(gone)
    for number, label in enumerate(("plain", FILE)):
        (tmp_path / FILE / label).mkdir(parents=True)
        for i in range(3):
            data = encode(picture(seed=10 * number + i))
            (tmp_path / FILE / label / f"{i}{FILE}.png").write_bytes(data)
        (tmp_path / FILE / f"{FILE}.png").write_bytes(b"no image")
    return own_home


def printed(home, *arguments):
    """What a command prints, which obeys nothing of a name."""
    done = graft(*arguments, home=home)
    text = done.stdout + done.stderr
    assert not [c for c in text if c != "\n" and words.printable(c) != c], text
    assert "Traceback" not in text
    return re.sub(r"\s+", "", text)


def test_lists_print_names_as_they_are(home):
    seen = re.sub(r"\s+", "", SHOWN)
    failed = next(run for run in runs.list_runs(home) if run.status == "failed")
    assert seen in printed(home, "show", failed.id)
    for command in ("runs", "trash", "queue", "doctor", "audit", "datasets", "cache"):
        printed(home, command)
    printed(home, "delete", failed.id)


def test_errors_quote_names_as_they_are(home):
    for arguments in (
        ["show", NAME],
        ["train", NAME],
        ["recipe", f"--set=name={NAME}"],
        ["train", "sample", f"--set=stages.0.optimizer={NAME}"],
        ["inspect", FILE],
        ["settings", f"{NAME}=3"],
        ["import", NAME],
        ["resume", NAME],
    ):
        printed(home, *arguments)


def test_a_folder_with_such_names_is_inspected(home, tmp_path, monkeypatch):
    spec = DatasetSpec(source="folder", path=str(tmp_path / FILE))
    prepare_worker.ingest(spec, home)
    printed(home, "curate", tmp_path / FILE)
    printed(home, "curate", tmp_path / FILE, f"--leave-out={FILE}")
    printed(home, "add", "mine", "--label", NAME, tmp_path / FILE / f"{FILE}.png")


def test_progress_prints_names_as_they_are(monkeypatch, own_home):
    screen = io.StringIO()
    notes = Console(file=screen, force_terminal=True, width=400, color_system=None, emoji=False)
    monkeypatch.setattr(terminal, "NOTES", notes)
    with terminal.progress(f"Opening {NAME}") as show:
        show(1, 2, f"Reading {NAME}")
    run = runs.create(load_preset("sample"), own_home)
    log = EventLog(run.path / "events.jsonl")
    log.write("phase", phase="data", text=f"Preparing {NAME}", done=0, total=2)
    log.write("warning", text=f"A warning about {NAME}")
    run.update(status="failed")
    terminal.follow(run)
    text = screen.getvalue()
    for said in ("Reading", "Preparing", "A warning about"):
        assert f"{said} {SHOWN}" in text
    assert not set("\u202e\x07\x9b") & set(text) and "]8;" not in text.replace(SHOWN, "")
