"""Memory and disk that run out: the run says so, and nothing that was there is harmed."""

import contextlib
import hashlib
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from engine import home as homes
from engine.host import settings
from engine.jobs import jobs
from engine.runs import checkpoint, runs
from tests.faults import harness
from tests.faults.harness import long_form
from tests.support.browser import server


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


def trains_on(run):
    """Whether a run is in its second stage and has a checkpoint."""
    return checkpoint.Checkpoints(run.path).listed() and any(
        e["event"] == "stage_start" and e["stage"] == 1 for e in run.events()[0]
    )


def saves(run):
    """Whether a run has ended its last stage, and writes its model."""
    return any(e["event"] == "stage_end" and e["stage"] == 1 for e in run.events()[0])


def test_full_disk_pauses_the_run_and_harms_nothing(small_disk):
    """At events and checkpoints, and once more at the final save."""
    home, other = small_disk
    with harness.faults(home):
        before = digests(other.path), digests(home / "datasets")
        run, said = jobs.start(harness.recipe(), home), []
        for reached in (trains_on, saves):
            harness.until(lambda reached=reached: reached(run), every=0.002)
            filler = fill(home)
            harness.until(lambda: not harness.workers(home), 60)
            harness.until(lambda: fill(home) and run.status not in runs.ACTIVE, 60)
            assert run.status in ("paused", "interrupted"), f"{run.status} {run.error}"
            assert checkpoint.Checkpoints(run.path).position() is not None
            assert (digests(other.path), digests(home / "datasets")) == before
            said.append(run.error)
            filler.unlink()
            jobs.resume(run)
        jobs.wait(run)
        assert run.status == "finished", f"{run.error}\n{run.log_tail()}"
        assert harness.same_weights(run, other)
    harness.observed("full disk during events and checkpoints, and the final save", said=said)


def test_nearly_full_disk_refuses_a_start_with_a_sentence(home):
    before = settings.get(home)["min_free_mb"]
    settings.change(home, min_free_mb=1_000_000)
    try:
        with pytest.raises(runs.GraftError, match="MiB are free"):
            jobs.start(harness.recipe(), home)
    finally:
        settings.change(home, min_free_mb=before)


@long_form
def test_thirty_runs_one_after_another_leave_the_server_small(home, undisturbed):
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
