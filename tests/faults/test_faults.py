"""Everything short of a disk dying: what was running goes on, and ends as if nothing had been.

The short form is part of the suite; `make faults` runs the long one (LONG) and prints a table.
"""

import contextlib
import hashlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from engine import home as homes
from engine.host import processes, settings
from engine.jobs import jobs, supervisor
from engine.runs import checkpoint, queue, runs
from tests.faults import harness
from tests.support.jobs import worker

LONG = os.environ.get("GRAFT_FAULTS_FORM") == "long"
KILLS, RACES, CANCELS = (100, 50, 50) if LONG else (6, 20, 4)
IN_WRITE = 0.25 if LONG else 0.5
"""Share of the kills that come while a checkpoint is written."""
long_form = pytest.mark.skipif(
    not LONG, reason="part of make faults; what it shows of decisions has tests without a run"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = homes.home(tmp_path_factory.mktemp("faults"))
    yield folder
    harness.end_all(folder)


@pytest.fixture(scope="module")
def undisturbed(home):
    """A run without interruption."""
    run = jobs.wait(jobs.start(harness.recipe(), home))
    assert run.status == "finished", f"{run.error}\n{run.log_tail()}"
    harness.end_all(home)
    return run


def test_killed_again_and_again_it_ends_with_the_same_weights(home, undisturbed):
    """kill -9 at random moments of both stages; `IN_WRITE` of them in a checkpoint's write."""
    kills = inside = lost = seed = 0
    while kills < KILLS:
        with harness.faults(home) as tell:
            found = harness.broken_run(home, tell, min(20, KILLS - kills), seed, IN_WRITE)
        seed += 1
        run = found["run"]
        assert harness.same_weights(run, undisturbed)
        assert harness.epochs(run) == harness.epochs(undisturbed)
        kills, inside = kills + found["kills"], inside + found["in_write"]
        lost += found["lost"]
    harness.observed(
        "worker killed (SIGKILL)",
        kills=kills,
        inside_a_checkpoint_write=inside,
        runs=seed,
        events_lost=lost,
    )
    assert lost == 0


def test_servers_and_supervisors_killed_meanwhile_leave_the_run_alone(home, undisturbed):
    from tests.support.browser import server

    run, supervisors = jobs.start(harness.recipe(), home), 0
    for _ in range(5):
        with server(home, home / "server.log") as (_, process):
            for one in harness.supervisors(home):
                one.kill()
                supervisors += 1
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        jobs.active(home)  # any page or command looks after the supervisor
    jobs.wait(run)
    assert run.status == "finished" and harness.same_weights(run, undisturbed)
    assert supervisors
    harness.observed(
        "server killed (SIGKILL) while a run goes on", kills=5, run="finished, the same"
    )
    harness.observed(
        "supervisor killed (SIGKILL) meanwhile", kills=supervisors, run="finished, the same"
    )


@long_form
def test_killed_between_its_last_event_and_its_status_a_run_ends_as_it_said(home, undisturbed):
    with harness.faults(home, before_status="finished"):
        run = jobs.wait(jobs.start(harness.recipe(), home))
        assert run.status == "finished", f"{run.error}\n{run.log_tail()}"
        ends = [e for e in run.events()[0] if e["event"] == "end"]
        assert [e["status"] for e in ends] == ["finished"] and run.events()[0][-1] == ends[0]
        assert run.kept_stage == ends[0]["kept_stage"] and run.evaluation["test"]["n"]
        assert run.state["attempts"] == 1 and not checkpoint.Checkpoints(run.path).listed()
        assert harness.same_weights(run, undisturbed)
    harness.observed("worker killed between last event and status", run="finished, the same")


# -- the queue --------------------------------------------------------------------------------


def _race(home, wanted, barrier, found):
    """Adds runs and claims what waits, as a supervisor does, with a process that only sleeps for a
    worker."""
    started = []

    def launch(run, device):
        child = subprocess.Popen(["sleep", "60"], start_new_session=True)
        started.append((run, device, child.pid))
        return worker(child.pid)

    barrier.wait()
    for run in wanted:
        queue.add(home, run)
    barrier.wait()
    queue.claim(home, ["a", "b"], 1, launch)
    found.put(started)


def test_racing_dispatchers_never_give_a_device_or_a_run_away_twice(tmp_path):
    spawn = multiprocessing.get_context("fork")
    for attempt in range(RACES):
        home = homes.home(tmp_path / str(attempt))
        wanted = [f"run-{i}" for i in range(5)]
        barrier, found = spawn.Barrier(2), spawn.Queue()
        # Both make the queue's file, and both add every run.
        racers = [
            spawn.Process(target=_race, args=(home, wanted, barrier, found)) for _ in range(2)
        ]
        for racer in racers:
            racer.start()
        started = [one for _ in racers for one in found.get()]
        for racer in racers:
            racer.join()
        assert sorted(device for _, device, _ in started) == ["a", "b"]
        assert sorted(run for run, _, _ in started) == wanted[:2]
        assert queue.waiting(home) == wanted[2:]
        assert {
            (s["run"], s["device"], s["handle"].token["pid"]) for s in queue.slots(home)
        } == set(started)
        for _, _, pid in started:
            os.killpg(pid, signal.SIGKILL)
    harness.observed("two processes start the same queue", tries=RACES, doubled=0, lost=0)


def test_worker_without_a_place_does_nothing(home, undisturbed):
    run = runs.create(harness.recipe(), home)
    run.update(status="paused")
    slot = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        queue.add(home, run.id)
        queue.claim(home, ["cpu"], 9, lambda *_: worker(slot.pid))
        done = processes.spawn("engine.jobs.worker", run.path, log=run.path / "worker.log").wait(60)
        assert done == 3 and run.status == "paused" and not run.events()[0]
    finally:
        os.killpg(slot.pid, signal.SIGKILL)
        slot.wait()
        harness.release_dead(home)


def test_another_process_with_the_same_number_is_never_touched(home):
    run = runs.create(harness.recipe(), home)
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        queue.add(home, run.id)
        faked = {"pid": other.pid, "born": processes.born(other.pid) - 1000}
        queue.claim(home, ["cpu"], 9, lambda *_: queue.Handle("local", faked))
        run.update(status="running", **faked)
        (run.path / "stop").touch()
        look = supervisor.Supervisor(home)
        look.look()
        look.look()
        with contextlib.suppress(runs.RunError):
            jobs.kill(run)
        assert other.poll() is None
        assert run.status in ("stopped", "interrupted") and not queue.slots(home)
        harness.observed("a faked pid", touched=0)
    finally:
        other.kill()
        other.wait()


def test_cancelled_at_random_moments_no_process_is_left(home, undisturbed):
    dice, slowest = random.Random(1), 0.0
    for _ in range(CANCELS):
        run = jobs.start(harness.recipe(), home)
        time.sleep(dice.uniform(0, 14 if LONG else 8))
        begun = time.monotonic()
        ways = {"stop": jobs.stop, "pause": jobs.pause, "kill": jobs.kill}
        way = dice.choice(list(ways))
        with contextlib.suppress(runs.RunError):  # it was quicker
            ways[way](run)
        harness.until(lambda run=run: not harness.workers(home), 15)
        slowest = max(slowest, time.monotonic() - begun)
        jobs.wait(run)
        assert run.status in ("finished", "stopped", "paused", "failed"), f"{way}: {run.status}"
        assert not queue.waiting(home)
    harness.observed(
        "cancelled at random moments", tries=CANCELS, longest_seconds=round(slowest, 1)
    )


# -- stop, pause and kill at bad moments --------------------------------------------------------


def begun(run, stage=1):
    """Waits until a run trains a stage and has a checkpoint in it."""
    checkpoints = checkpoint.Checkpoints(run.path)
    harness.until(
        lambda: checkpoints.listed() and (at := checkpoints.position()) and at["stage"] >= stage
    )


@long_form
def test_stop_that_a_worker_cannot_answer_is_done_from_its_checkpoint(home, undisturbed):
    with harness.faults(home):
        run = jobs.start(harness.recipe(), home)
        begun(run)
        os.kill(queue.holder(home, run.id).token["pid"], signal.SIGSTOP)  # as in one long step
        jobs.stop(run)
        jobs.wait(run)
        assert run.status == "stopped" and run.finished, run.log_tail()
        assert run.state["attempts"] == 2


def test_stop_in_the_first_moment_of_a_resumed_run_keeps_what_it_had_learnt(home, undisturbed):
    with harness.faults(home):
        run = jobs.start(harness.recipe(), home)
        begun(run)
        jobs.pause(run)
        jobs.wait(run)
        assert run.status == "paused"
        # As a supervisor does for a stop that the worker could not answer.
        run.update(status="queued", stop_asked=True)
        queue.add(home, run.id)
        jobs.supervise(home)
        jobs.wait(run)
        assert run.status == "stopped" and run.finished, run.log_tail()


@long_form
def test_killed_by_a_user_a_run_stays_dead_though_others_are_taken_up(home, undisturbed):
    settings.change(home, auto_resume=True)
    try:
        with harness.faults(home):
            run, other = jobs.start(harness.recipe(), home), jobs.start(harness.recipe(), home)
            begun(run, 0)
            jobs.kill(run)
            begun(other, 0)
            harness.kill_worker(other)
            jobs.wait(other)
            harness.until(lambda: other.status == "finished")  # resumed automatically
            assert run.status == "failed" and "killed by a user" in run.error
            assert harness.same_weights(other, undisturbed)
    finally:
        settings.change(home, auto_resume=False)


def test_asked_to_end_by_the_host_a_run_pauses_and_is_resumed_when_graft_starts(home, undisturbed):
    settings.change(home, auto_resume=True)
    try:
        with harness.faults(home):
            run = jobs.start(harness.recipe(), home)
            begun(run, 0)
            os.kill(queue.holder(home, run.id).token["pid"], signal.SIGTERM)
            harness.until(lambda: run.status == "interrupted")
            assert "for a restart" in run.error
            harness.end_all(home)
            jobs.supervise(home)
            harness.until(lambda: run.status == "finished")
            assert harness.same_weights(run, undisturbed)
    finally:
        settings.change(home, auto_resume=False)


@long_form
def test_after_a_reboot_a_command_alone_takes_a_run_up(home, undisturbed):
    """The queue still names a process of before the boot."""
    run = runs.create(harness.recipe(), home)
    queue.add(home, run.id)
    gone = {"pid": os.getpid(), "born": 1.0}
    queue.claim(home, ["cpu"], 9, lambda *_: queue.Handle("local", gone))
    run.update(status="running", **gone)
    jobs.resume(run)
    jobs.wait(run)
    assert run.status == "finished" and harness.same_weights(run, undisturbed)


# -- limits -----------------------------------------------------------------------------------


def test_worker_that_eats_memory_is_ended_and_says_so(home, undisturbed):
    before = settings.get(home)["memory_limit_percent"]
    settings.change(home, memory_limit_percent=20)
    try:
        with harness.faults(home, allocate=True) as tell:
            run = jobs.wait(jobs.start(harness.recipe(), home))
            assert run.status == "failed" and "memory ran out" in run.error, run.log_tail()
            assert run.state["proposed_batch_size"] == 8
            peak = max((e.get("peak_memory_mb", 0) for e in run.events()[0]), default=0)
            tell()
            # One click: the same in smaller batches, from the last checkpoint.
            smaller = jobs.wait(jobs.restart_smaller(run, 8))
        assert smaller.status == "finished" and smaller.recipe.batch_size == 8
        assert smaller.state["parent"] == run.id and run.state["went_on_as"] == smaller.id
        harness.observed("memory without bound", reported=run.error, peak_mb=peak)
    finally:
        settings.change(home, memory_limit_percent=before)


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """A home on a disk of 64 MiB, with a finished run: where features do not fit, weights differ in
    their last bits from those of `undisturbed`."""
    disk = tmp_path_factory.mktemp("small") / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {done.stderr.strip()}")
    home = homes.home(disk / "home")
    settings.change(home, min_free_mb=0)
    other = jobs.wait(jobs.start(harness.recipe(), home))
    assert other.status == "finished"
    harness.end_all(home)
    yield home, other
    harness.end_all(home)
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(home) -> Path:
    """Takes the last byte of the home's disk; returns the file to delete."""
    path = home.parent / "filler"
    with open(path, "ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return path


def digests(folder) -> dict:
    """SHA-256 of every file below a folder."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.mark.parametrize("moment", ["events and checkpoints", "final save"])
def test_full_disk_pauses_the_run_and_harms_nothing(small_disk, moment):
    home, other = small_disk
    with harness.faults(home):
        before = digests(other.path), digests(home / "datasets")
        run = jobs.start(harness.recipe(), home)

        def reached():
            found = run.events()[0]
            if moment == "final save":
                return any(e["event"] == "stage_end" and e["stage"] == 1 for e in found)
            return checkpoint.Checkpoints(run.path).listed() and any(
                e["event"] == "stage_start" and e["stage"] == 1 for e in found
            )

        harness.until(reached, every=0.002)
        filler = fill(home)
        harness.until(lambda: not harness.workers(home), 60)
        harness.until(lambda: fill(home) and run.status not in runs.ACTIVE, 60)
        assert run.status in ("paused", "interrupted"), f"{run.status} {run.error}"
        position = checkpoint.Checkpoints(run.path).position()
        assert position is not None
        assert (digests(other.path), digests(home / "datasets")) == before
        said = run.error
        filler.unlink()
        jobs.wait(jobs.resume(run))
        assert run.status == "finished", f"{run.error}\n{run.log_tail()}"
        assert harness.same_weights(run, other)
    harness.observed(f"full disk during {moment}", status="paused", said=said)


def test_nearly_full_disk_refuses_a_start_with_a_sentence(home):
    before = settings.get(home)["min_free_mb"]
    settings.change(home, min_free_mb=1_000_000)
    try:
        with pytest.raises(runs.GraftError, match="MiB are free"):
            jobs.start(harness.recipe(), home)
    finally:
        settings.change(home, min_free_mb=before)


@pytest.mark.skipif(not LONG, reason="half an hour; part of the long form (make faults)")
def test_thirty_runs_one_after_another_leave_the_server_small(home, undisturbed):
    from tests.support.browser import server

    with server(home, home / "server.log") as (address, process):
        grown, first = [], None
        for _ in range(30):
            run = jobs.start(harness.recipe(), home)
            watch = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.viewer", address, "train", f"run={run.id}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
            )
            jobs.wait(run)
            watch.communicate()
            assert run.status == "finished"
            now = psutil.Process(process.pid).memory_info().rss / 2**20
            first = first or now
            grown.append(now - first)
    harness.observed("30 runs one after another", server_grew_mib=round(max(grown), 1))
    assert max(grown) <= 50
