"""Every command on a full disk: one sentence, never a traceback, and nothing is lost."""

import hashlib
import io
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import filelock
import pytest
import typer

from engine import home as homes
from engine.cli.main import app
from engine.errors import DiskError, unexpected
from engine.host import settings
from engine.runs import queue, runs, trash
from tests.support import ROOT
from tests.support.cli import graft
from tests.support.pictures import encode, picture
from tests.support.rights import without_space

READS = {
    "datasets": "",
    "presets": "flowers",
    "runs": "--json",
    "show": "{run}",
    "predict": "{run} {photos}/cat/0.png",
    "recipe": "",
    "backbones": "",
    "queue": "--json",
    "trash": "",
    "evaluate": "{run}",
    "audit": "",
}
"""Commands that need no space."""
WRITES = {
    "inspect": "sample",
    "train": "sample",
    "export": "{run} --format keras --again",
    "add": "pets --label cat {photos}/cat/0.png",
    "curate": "sample --undo 0",
    "payback": "sample",
    "resume": "{paused}",
    "continue": "{run} --epochs 1",
    "queue-move": "{waiting} 1",
    "batch": "{run} {photos} --csv {table}",
    "calibrate": "{run}",
    "import": "{home}/runs/{run}",
    "settings": "runs_per_device=2",
    "cache": "--limit 5",
    "users": "add anna --role trainer --generate",
    "share": "{run}",
    "keys": "create laptop --scope classify",
}
"""Commands that cannot do their work."""
EITHER = {
    "preflight": "sample",
    "find-rate": "sample",
    "serve": "{run} --port {taken}",
    "doctor": "",
    "restore": "{deleted}",
    "pause": "{waiting}",
    "stop": "{waiting}",
    "delete": "{run}",
}
"""Commands that do their work, or say why not."""
COMMANDS = typer.main.get_command(app).commands


@pytest.fixture
def full(own_home, trained_run, tmp_path):
    """Names and places in a home with a run, its dataset, a run that waits, one that is paused, one
    in the trash, and a table of before."""
    shutil.copytree(trained_run.path, own_home / "runs" / trained_run.id)
    datasets = trained_run.home / "datasets"
    shutil.copytree(datasets, own_home / "datasets", dirs_exist_ok=True)
    settings.change(own_home, min_free_mb=0)  # a command that checks first is not the question
    made = {
        name: runs.create(trained_run.recipe, own_home) for name in ("waiting", "paused", "old")
    }
    for name, run in made.items():
        run.update(creator=None, status="queued" if name == "waiting" else "paused")
    queue.add(own_home, made["waiting"].id)
    decided = homes.read_json(trained_run.path / "examples" / "examples.json")[0]["name"]
    done = graft("curate", "sample", "--leave-out", decided, home=own_home)
    assert done.returncode == 0, done.stderr
    trash.delete(made["old"])
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "0.png").write_bytes(encode(picture()))
    (own_home / "table.csv").write_text("what a person made before\n")
    with (
        filelock.FileLock(own_home / homes.SUPERVISOR_LOCK),  # nobody starts what waits
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        yield {
            "home": own_home,
            "run": trained_run.id,
            "waiting": made["waiting"].id,
            "paused": made["paused"].id,
            "deleted": made["old"].id,
            "photos": tmp_path / "photos",
            "table": own_home / "table.csv",
            "taken": taken.getsockname()[1],
        }


def contents(home) -> set[str]:
    """SHA-256 of everything in a home that is not empty."""
    files = [path for path in Path(home).rglob("*") if path.is_file() and path.stat().st_size]
    return {
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if not path.name.startswith(homes.QUEUE)
    }


def test_every_command_says_one_sentence_and_loses_nothing(full):
    lines = READS | WRITES | EITHER
    assert set(COMMANDS) <= set(lines), "say what a new command does on a full disk"
    home, before = full["home"], contents(full["home"])
    asked = {n: [n, *line.format(**full).split()] for n, line in lines.items() if n in COMMANDS}

    def ask():
        done = {name: graft(*arguments, home=home) for name, arguments in asked.items()}
        return {name: (d.returncode, d.stdout, d.stderr) for name, d in done.items()}

    for name, (code, out, errors) in without_space(ask).items():
        assert "Traceback" not in errors and "Traceback" not in out, name
        last = errors.strip().splitlines()[-1:] or [""]
        if name in READS:
            assert code == 0, (name, errors)
        elif name in WRITES:
            assert code in (1, 2) and out == "", (name, errors)
            assert last[0].startswith("error: ") and "free some space" in last[0], (name, last)
        elif name != "doctor":
            assert code == 0 or last[0].startswith("error: "), (name, errors)
    assert before <= contents(home)
    assert {path.name for path in (home / "runs").iterdir()} <= {
        full[name] for name in ("run", "waiting", "paused", "deleted")
    }


def test_an_answer_that_finds_no_space_is_a_sentence():
    """`python -m engine runs > FILE` on a full disk."""
    with open("/dev/full", "wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "engine", "presets"], stdout=out, stderr=subprocess.PIPE,
            text=True, cwd=ROOT,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "free some space" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("ENOSPC", "free some space"), ("EDQUOT", "free some space"),
        ("EACCES", "change its permissions"), ("EROFS", "change its permissions"),
    ],
)  # fmt: skip
def test_errors_of_the_disk_say_what_to_do(code, what):
    number = getattr(__import__("errno"), code)
    error = OSError(number, os.strerror(number), "/data/index.npz")
    text = str(DiskError.of(error))
    assert "/data/index.npz" in text and os.strerror(number) in text and what in text
    assert unexpected(error, "training", "the log") == text  # as a worker says it
    assert (
        DiskError.of(io.UnsupportedOperation("fileno")) is None and DiskError.of(KeyError()) is None
    )
