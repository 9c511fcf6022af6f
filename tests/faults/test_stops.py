"""Stop, pause and kill at bad moments, and a queue that several processes serve."""

import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import time

from engine import home as homes
from engine.host import processes, settings
from engine.jobs import jobs, supervisor
from engine.runs import checkpoint, queue, runs
from tests.faults import harness
from tests.faults.harness import LONG, long_form
from tests.support.jobs import worker

RACES, CANCELS = 50 if LONG else 20, 50


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


@long_form
def test_cancelled_at_random_moments_no_process_is_left(home, undisturbed):
    dice, slowest = random.Random(1), 0.0
    for _ in range(CANCELS):
        run = jobs.start(harness.recipe(), home)
        time.sleep(dice.uniform(0, 14))
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
