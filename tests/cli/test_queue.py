"""Commands of the queue, and of runs that are resumed or continued; nothing is trained."""

import json
import signal

import pytest
import typer

from engine.cli import runs as cli_runs
from engine.host import settings
from engine.jobs import jobs
from engine.runs import queue, runs
from tests.support.browser import GrowingRun
from tests.support.cli import graft
from tests.support.jobs import busy_run, finished, home_at_rest, made


@pytest.fixture
def home(tmp_path, monkeypatch):
    with home_at_rest(tmp_path, monkeypatch) as folder:
        yield folder


@pytest.fixture
def busy(home):
    return busy_run(home)


def test_commands_of_the_queue(home, busy):
    a, b = made(home, "a"), made(home, "b")
    found = json.loads(graft("queue", "--json", home=home).stdout)
    assert [(e["place"], e["run"]) for e in found["waiting"]] == [(1, a.id), (2, b.id)]
    assert found["running"][0]["run"] == busy.run.id and found["running"][0]["device"] == "cpu"
    shown = graft("queue", home=home).stdout
    assert busy.run.id in shown and "place 2" in shown
    done = graft("queue-move", b.id, 1, home=home)
    assert done.returncode == 0 and "is at place 1 of 2" in done.stderr
    done = graft("stop", a.id, home=home)
    assert "has left the queue and will not start" in done.stderr and a.status == "stopped"
    done = graft("queue-move", a.id, 1, home=home)
    assert done.returncode == 2 and "no longer waiting" in done.stderr
    done = graft("pause", b.id, home=home)
    assert f"python -m engine resume {b.id}" in done.stderr and b.status == "paused"
    done = graft("resume", b.id, "--no-wait", home=home)
    assert done.stdout.strip() == b.id and "at place 1" in done.stderr
    done = graft("pause", busy.run.id, home=home)
    assert "Pausing: saving a checkpoint" in done.stderr and (busy.run.path / "pause").exists()


def test_commands_that_make_a_new_run(home, busy):
    done = graft("train", "sample", "--queue", home=home)
    assert done.returncode == 0 and queue.waiting(home) == [done.stdout.strip()]
    assert "at place 1; it starts in about" in done.stderr
    failed = made(home, "large", "failed", step=345, error="the memory ran out")
    done = graft("resume", failed.id, "--batch-size", 16, "--no-wait", home=home)
    new = runs.get_run(home, done.stdout.strip())
    assert new.recipe.batch_size == 16 and new.state["parent"] == failed.id
    old = finished(home)
    done = graft(
        "continue", old.id, "--epochs", 2, "--trainable", "all", "--rate", 1e-5, "--no-wait",
        home=home,
    )  # fmt: skip
    new = runs.get_run(home, done.stdout.strip())
    assert new.recipe.continue_from == old.id
    assert new.recipe.stages[0].model_dump()["learning_rate"] == 1e-5


def test_commands_that_cannot_be_followed_are_a_sentence(home):
    run, other = finished(home), made(home, "broken", "failed", error="x")
    for arguments, words in (
        (["resume", run.id], "only a paused, interrupted or failed run can be resumed"),
        (["pause", run.id], "nothing to pause"),
        (["continue", run.id, "--epochs", 0], "must be at least 1; 0 was given"),
        (["continue", other.id, "--epochs", 1], "no model to continue from"),
        (["settings", "speed=1"], "there is no setting 'speed'"),
        (["settings", "runs_per_device"], "must look like"),
    ):
        done = graft(*arguments, home=home)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
        assert done.stdout == ""


def test_settings_on_the_command_line(home):
    done = graft("settings", "runs_per_device=2", "auto_resume=True", "--json", home=home)
    assert json.loads(done.stdout)["runs_per_device"] == 2
    assert settings.get(home)["auto_resume"] is True
    assert "memory_limit_percent" in graft("settings", home=home).stdout


@pytest.fixture
def interrupts():
    """Puts Ctrl-C back to what it was."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("status", "error", "code", "words"),
    [
        ("finished", None, 0, ""),
        ("stopped", None, 0, ""),
        ("paused", None, 1, "is paused"),
        ("failed", "the memory ran out", 1, "--batch-size 16"),
        ("interrupted", "the worker ended", 1, "To resume it: python -m engine resume"),
    ],
)
def test_the_end_of_a_followed_run(home, interrupts, capsys, status, error, code, words):
    growing = GrowingRun(home)
    growing.grow(20)
    seen = growing.run.events()[1]
    growing.log.write("resume", stage=0, epoch=1, step=15, text="Resumed at step 15.")
    growing.grow(5)
    smaller = 16 if status == "failed" else None
    growing.run.update(status=status, error=error, proposed_batch_size=smaller)
    if code:
        with pytest.raises(typer.Exit) as ended:
            cli_runs.watch(growing.run, seen=seen)
        assert ended.value.exit_code == code
    else:
        cli_runs.watch(growing.run, seen=seen)
    printed = capsys.readouterr()
    assert printed.out.strip() == growing.run.id
    assert words in printed.err and "Resumed at step 15." in printed.err
    assert "epoch 1:" not in printed.err, "what was seen before is not shown again"


def test_a_run_that_waits_says_its_place_while_it_is_followed(home, busy, capsys):
    from engine.cli import terminal

    made(home, "first")
    run = made(home, "second")

    class Bar:
        class console:
            print = staticmethod(lambda text, **_: print(text))

    assert terminal.show_place(Bar, run, None) == 2
    assert terminal.show_place(Bar, run, 2) == 2
    jobs.move(run, 1)
    assert terminal.show_place(Bar, run, 2) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and "at place 2" in lines[0] and "starts in about" in lines[1]
