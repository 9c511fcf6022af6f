"""Everything short of a disk dying: what was running goes on, and ends as if nothing had been.

The short form is part of the suite; `make faults` runs the long one (LONG) and prints a table.
"""

import os
import signal

from engine.jobs import jobs
from engine.runs import checkpoint
from tests.faults import harness
from tests.faults.harness import LONG, long_form
from tests.support.browser import server

KILLS, SERVERS = (100, 5) if LONG else (4, 2)
IN_WRITE = 0.25 if LONG else 0.5
"""Share of the kills that come while a checkpoint is written."""


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
    run, supervisors = jobs.start(harness.recipe(), home), 0
    for _ in range(SERVERS):
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
        "server killed (SIGKILL) while a run goes on", kills=SERVERS, run="finished, the same"
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
