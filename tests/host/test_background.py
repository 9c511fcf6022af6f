"""Background jobs: started once, watched and cancelled from other processes, with one sentence."""

import os
import subprocess
import sys
import threading

import pytest

from engine import home as homes
from engine.data import datasets
from engine.errors import GraftError
from engine.host import background_worker, processes
from engine.host.background import KINDS, Job, lock_of
from engine.recipe import DatasetSpec

LONG = DatasetSpec(source="sample", images=20_000)


@pytest.fixture
def job(own_home):
    """A job that takes long enough to look at."""
    job = datasets.job(LONG, own_home)
    yield job
    job.cancel()


def start(job, home):
    job.start(home, spec=LONG.model_dump())


def test_a_job_is_found_and_cancelled_by_another_process(job, own_home):
    start(job, own_home)
    pid = job.pid()
    code = (
        "import sys; from pathlib import Path; from engine.host.background import Job\n"
        "job = Job(Path(sys.argv[1]), 'prepare'); print(job.state()['state']); job.cancel()"
    )
    command = [sys.executable, "-c", code, str(job.path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "running"
    assert processes.born(pid) is None
    assert job.state()["state"] == "missing"
    with pytest.raises(GraftError, match="preparing the dataset was cancelled"):
        job.wait()


def test_a_job_that_is_started_twice_at_once_has_one_process(job, own_home, monkeypatch):
    spawned, spawn = [], processes.spawn

    def counted(*arguments, **options):
        spawned.append(spawn(*arguments, **options))
        return spawned[-1]

    monkeypatch.setattr(processes, "spawn", counted)
    starts = [threading.Thread(target=start, args=(job, own_home)) for _ in range(4)]
    for each in starts:
        each.start()
    for each in starts:
        each.join()
    assert [child.pid for child in spawned] == [job.pid()]


def test_a_killed_job_says_so_and_can_be_started_again(job, own_home):
    start(job, own_home)
    processes.end(processes.identity(job.pid()))
    now = job.state()
    assert now["state"] == "failed"
    assert now["error"] == "preparing the dataset stopped unexpectedly; start it again"
    start(job, own_home)
    assert job.state()["state"] == "running"


def test_what_was_done_can_stand_for_the_result_of_a_job_that_is_stopped(job, own_home):
    start(job, own_home)
    job.cancel({"stopped": True})
    assert job.pid() is None
    assert job.wait() == {"stopped": True}


def test_the_file_of_an_earlier_version_is_no_job(own_home):
    job = datasets.job(LONG, own_home)
    homes.write_json(job.path, {"pid": 1, "born": 1.0, "text": "Checking images", "done_at": 2.0})
    assert datasets.state(LONG, own_home)["state"] == "missing"
    homes.write_json(job.path, {"pid": 1, "born": 1.0, "error": "the disk was full"})
    assert datasets.state(LONG, own_home)["error"] == "the disk was full"


def test_every_kind_names_a_function_of_the_engine():
    for kind in KINDS.values():
        module, function = kind.work.split(":")
        path = processes.PROJECT / (module.replace(".", os.sep) + ".py")
        assert f"\ndef {function}(" in path.read_text()


def test_an_error_that_nobody_expected_is_one_sentence_with_the_log(own_home, monkeypatch, capfd):
    path = own_home / "job.json"
    homes.write_json(path, {"kind": "prepare", "parameters": {}} | processes.identity())
    assert background_worker.main(str(path), str(own_home)) == 1  # the work needs a spec
    error = Job(path, "prepare").state()["error"]
    assert "preparing the dataset" in error and "TypeError" in error and "job.log" in error
    assert "Traceback" in capfd.readouterr().err


def test_a_process_waits_for_its_request_as_long_as_whatever_starts_it_lives(tmp_path):
    path, found = tmp_path / "job.json", []
    ask = threading.Thread(target=lambda: found.append(background_worker._own_request(path)))
    with lock_of(path):
        ask.start()
        homes.write_json(path, {"kind": "prepare"} | processes.identity())
    ask.join()
    assert found[0]["kind"] == "prepare"
    # Whatever started it has died, or has been cancelled: there is nothing to wait for.
    homes.write_json(path, {"kind": "prepare", "pid": 1, "born": 1.0})
    assert background_worker._own_request(path) is None


def test_the_time_left_follows_from_the_pace_of_a_phase(tmp_path, monkeypatch):
    """The first items wait for what is set up once, and what was done before does not count."""
    path, clock = tmp_path / "job.json", iter((0.0, 50.0, 51.0, 52.0))
    monkeypatch.setattr(background_worker.time, "time", lambda: next(clock))
    report = background_worker.Reporter(path, {"kind": "prepare"})

    def left(text, done):
        report(text, done, 100)
        return homes.read_json(path)["eta_seconds"]

    assert [left("Looking", done) for done in (0, 10, 20)] == [None, None, 8.0]
    assert left("Downloading: 1 of 100 MiB", 1) is None  # another phase
