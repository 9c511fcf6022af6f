"""What the supervisor decides about runs and workers, without a worker."""

import os

import pytest

from engine.host import limits, processes, settings
from engine.jobs import executors, jobs
from engine.jobs.supervisor import PATIENCE, TRIES, Supervisor
from engine.recipe import load_preset
from engine.runs import checkpoint, events, queue, runs

GONE = {"pid": os.getpid(), "born": 1.0}
"""A process of another boot."""


@pytest.fixture
def home(own_home, monkeypatch):
    monkeypatch.setattr(jobs, "supervise", lambda home: None)  # the test is the supervisor
    settings.change(own_home, min_free_mb=0)
    return own_home


@pytest.fixture
def ended(monkeypatch):
    """Handles of the workers that were killed; the test itself stands for a worker."""
    found = []
    monkeypatch.setattr(executors, "end", found.append)
    return found


def started(home, who):
    """A run whose worker is the process `who`."""
    run = runs.create(load_preset("sample"), home)
    queue.add(home, run.id)
    queue.claim(home, ["cpu"], 9, lambda *_: queue.Handle("local", who))
    run.update(status="running", started=1.0, attempts=1, events_from=0, **who)
    (run.path / "worker.log").touch()
    return run


def asked(run, what, seconds):
    """Asks a run to stop or pause, `seconds` ago."""
    path = run.path / what
    path.touch()
    when = path.stat().st_mtime - seconds
    os.utime(path, (when, when))


# -- while a worker lives -----------------------------------------------------------------------


def test_a_worker_within_its_limits_is_left_alone(home, ended):
    run = started(home, processes.identity())
    assert Supervisor(home).look() and not ended
    assert run.status == "running"


def test_a_worker_above_the_memory_limit_is_ended_and_the_run_proposes_smaller_batches(
    home, ended, monkeypatch
):
    run = started(home, processes.identity())
    monkeypatch.setattr(executors, "memory", lambda handle: limits.memory_limit(home) + 1)
    supervisor = Supervisor(home)
    supervisor.look()
    assert ended == [queue.holder(home, run.id)]
    monkeypatch.setattr(executors, "alive", lambda handle: False)
    supervisor.look()
    assert run.status == "failed" and "memory ran out" in run.error
    assert run.state["proposed_batch_size"] == run.recipe.batch_size // 2
    assert queue.slots(home) == []


@pytest.mark.parametrize("what", ["stop", "pause"])
@pytest.mark.parametrize(
    ("seconds", "state", "ends"),
    [
        (PATIENCE + 5, {}, True),
        (0, {}, False),  # just asked
        (PATIENCE + 5, {"answered": "stop"}, False),  # it is about to do it
    ],
)
def test_a_worker_that_answers_neither_stop_nor_pause_is_ended(
    home, ended, what, seconds, state, ends
):
    run = started(home, processes.identity())
    run.update(**state)
    asked(run, what, seconds)
    supervisor = Supervisor(home)
    supervisor.look()
    assert (ended == [queue.holder(home, run.id)]) == ends
    assert supervisor.ended == ({run.id: what} if ends else {})


@pytest.mark.parametrize("what", ["stop", "pause"])
def test_a_worker_that_already_writes_its_model_is_not_ended(home, ended, what):
    run = started(home, processes.identity())
    run.update(finishing=True)
    asked(run, what, PATIENCE + 5)
    Supervisor(home).look()
    assert not ended


# -- when a worker has died ---------------------------------------------------------------------


def test_a_death_counts_as_memory_only_near_the_limit_or_if_the_log_says_so(home):
    limit = limits.memory_limit(home)

    def after(most=0, log="", why="exit code 1", before=""):
        run = started(home, GONE)
        (run.path / "worker.log").write_text(before + log)
        supervisor = Supervisor(home)
        supervisor.most[run.id], supervisor.log_from[run.id] = most, len(before)
        supervisor.ended[run.id] = why
        supervisor.look()
        return run.status, "memory ran out" in run.error

    bad = "MemoryError: std::bad_alloc"
    assert after(most=int(0.8 * limit)) == ("failed", True)
    assert after(most=int(0.5 * limit)) == ("interrupted", False)
    assert after(log=bad) == ("failed", True)
    # Killed from outside, or said by an earlier worker of the same run: not memory.
    assert after(log=bad, why="") == ("interrupted", False)
    assert after(before=bad) == ("interrupted", False)


def test_a_run_that_dies_again_and_again_at_one_place_is_resumed_a_few_times_only(home):
    settings.change(home, auto_resume=True)
    run = started(home, GONE)
    supervisor = Supervisor(home)

    def dies():
        """Its next worker dies at once; returns whether it is resumed."""
        log = events.EventLog(run.path / "events.jsonl")
        run.update(status="running", events_from=log.size)
        return supervisor.settle(run.id) is not None

    assert [dies() for _ in range(TRIES + 1)] == [True] * TRIES + [False]
    assert run.status == "interrupted"
    # A checkpoint further on is progress: the count begins again.
    checkpoint.Checkpoints(run.path).save({"stage": 0, "step": 7}, {})
    assert dies() and run.state["tries"] == 0


def test_a_stop_that_dies_again_and_again_ends_without_another_try(home):
    run = started(home, GONE)
    checkpoint.Checkpoints(run.path).save({"stage": 0, "step": 3}, {})
    run.update(attempts=TRIES, stop_asked=True)
    assert Supervisor(home).settle(run.id) is None
    assert run.status == "interrupted"


def test_a_run_of_an_unknown_folder_is_not_created_by_settling_it(home):
    assert Supervisor(home).settle("deleted-meanwhile") is None
    assert runs.list_runs(home) == []


# -- runs that nothing takes care of ------------------------------------------------------------


def test_after_a_crash_of_the_host_runs_without_a_place_are_found(home):
    lost = started(home, GONE)
    queue.release(home, lost.id, queue.Handle("local", GONE))
    Supervisor(home).look()
    assert lost.status == "interrupted" and "stopped unexpectedly" in lost.error


def test_after_a_reboot_a_command_alone_resumes_a_run(home, monkeypatch):
    """The queue still names a process of before the boot."""
    run = started(home, GONE)
    supervisor = Supervisor(home)
    supervisor.launch = lambda *_: None
    monkeypatch.setattr(jobs, "supervise", lambda home: supervisor.look())
    added = []
    monkeypatch.setattr(queue, "add", lambda home, run, first=False: added.append(run))
    jobs.resume(run)
    assert run.status == "queued" and added == [run.id] and queue.slots(home) == []


@pytest.mark.parametrize("resumes", [True, False])
def test_a_run_that_the_host_ended_is_resumed_where_the_settings_say_so(home, resumes):
    settings.change(home, auto_resume=resumes)
    run = runs.create(load_preset("sample"), home)
    run.update(status="interrupted", error=runs.ENDED_BY_HOST)
    supervisor = Supervisor(home)
    supervisor.launch = lambda *_: None
    supervisor.find_interrupted()
    assert run.status == ("queued" if resumes else "interrupted")
    assert queue.waiting(home) == ([run.id] if resumes else [])


def test_a_new_run_is_put_into_the_queue_by_its_creator_however_long_that_takes(home):
    run = runs.create(load_preset("sample"), home)
    run.update(created=1.0)  # preparing it takes days
    assert run.being_made
    Supervisor(home).find_interrupted()
    assert queue.waiting(home) == []
    run.update(creator=GONE)  # it died before it could
    Supervisor(home).find_interrupted()
    assert queue.waiting(home) == [run.id]


def test_a_started_run_is_not_being_made_any_more(home):
    assert not jobs.start(load_preset("sample"), home).being_made


def test_a_run_that_was_cancelled_or_deleted_meanwhile_is_not_launched(home, monkeypatch):
    monkeypatch.setattr(executors, "launch", lambda *_: pytest.fail("a worker was started"))
    cancelled, deleted = (runs.create(load_preset("sample"), home) for _ in range(2))
    cancelled.update(status="stopped")
    (deleted.path / "recipe.yaml").unlink()
    for run in (cancelled, deleted):
        queue.add(home, run.id)
    Supervisor(home).look()
    assert queue.slots(home) == [] and queue.waiting(home) == []
