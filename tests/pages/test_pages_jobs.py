"""The queue, pause and resume without a browser: what pages show and do.

Nothing is trained: the test holds the supervisor's lock, so no worker starts.
"""

import os
import subprocess
import time

import pytest
from streamlit.testing.v1 import AppTest

from engine.host import processes, settings
from engine.jobs import jobs
from engine.runs import queue, runs, trash
from pages._ui import common
from tests.support.browser import GrowingRun
from tests.support.jobs import busy_run, finished, home_at_rest, made
from tests.support.pages import as_read, button, open_page, said


@pytest.fixture
def home(tmp_path, monkeypatch):
    with home_at_rest(tmp_path, monkeypatch) as folder:
        yield folder


@pytest.fixture
def busy(home):
    return busy_run(home)


def primary(app):
    """Labels of the primary buttons."""
    return [item.label for item in app.button if item.proto.type == "primary"]


def ready(**query):
    """The Train page with what is about to start, although something runs."""
    app = AppTest.from_file(open_page.__globals__["SHELL"], default_timeout=60)
    app.session_state["new_run"] = True
    app.switch_page("train.py").run()
    assert not app.exception, app.exception
    return app


# -- Train ----------------------------------------------------------------------------------------


def test_every_status_has_words_and_a_sign():
    assert set(common.STATUS) == {*runs.STATUSES, "stopping", "pausing"}


def test_start_says_where_the_run_will_stand_and_queues_it(home, busy):
    first = made(home, "first")
    app = ready()
    assert "**growing** is in progress" in said(app)
    assert "will be number 2 in the queue; it starts in about" in said(app)
    button(app, "Add to the queue").click().run()
    assert not app.exception and not app.error
    second = next(run for run in runs.list_runs(home) if run not in (first, busy.run))
    assert queue.waiting(home) == [first.id, second.id]
    assert app.query_params["run"] in (second.id, [second.id])
    assert "Place 2 of 2 in the queue" in said(app)
    # More may follow, from this tab or another.
    button(app, "New run").click().run()
    assert "will be number 3 in the queue" in said(app)


def test_nothing_in_progress_starts_at_once(home):
    app = ready()
    assert button(app, "Start training") and not app.info


def test_a_double_click_is_done_once_and_shows_the_run_it_made(home):
    def script():
        import streamlit as st

        from pages._ui import clicks

        made = st.session_state.setdefault("made", [])
        # The same drawing, as for two clicks of which the second is heard late.
        drawn = st.session_state.setdefault("drawn", clicks.drawing())
        st.button("Go", on_click=clicks.once, args=("here", drawn, made.append, 1))
        again = ("here", clicks.drawing(), made.append, 2)  # a drawing of its own for each click
        st.button("Again", on_click=clicks.once, args=again)

    app = AppTest.from_function(script, default_timeout=30).run()
    for _ in range(2):
        app.button[0].click().run()
    for _ in range(2):
        app.button[1].click().run()
    assert app.session_state["made"] == [1, 2, 2]


def test_waiting_run_shows_its_place_its_start_and_can_be_cancelled(home, busy):
    first, second = made(home, "first"), made(home, "second")
    assert "Place 1 of 2 in the queue.** It starts in" in said(open_page("train", run=first.id))
    app = open_page("train", run=second.id)
    assert "Place 2 of 2 in the queue.** It starts in" in said(app)
    button(app, "Cancel").click().run()
    assert second.status == "stopped" and queue.waiting(home) == [first.id]
    assert "Removed from the queue before it started" in said(app)
    assert primary(app) == ["New run"]


def test_a_waiting_run_that_has_learned_something_is_not_lost_by_cancelling(home, busy):
    run = made(home, "resumed", step=345)
    app = open_page("train", run=run.id)
    button(app, "Remove from queue").click().run()
    assert run.status == "paused" and not queue.waiting(home)
    assert primary(app) == ["Resume from step 345"]


def test_running_run_shows_its_device_and_can_be_paused(home, busy):
    app = open_page("train", run=busy.run.id)
    assert any(item.value == ":material/memory: CPU" for item in app.caption)
    button(app, "Pause").click().run()
    assert (busy.run.path / "pause").exists()
    assert "Pausing: saving a checkpoint" in as_read(app.get("progress")[0].proto.text)
    assert button(app, "Pause").disabled and button(app, "Stop").disabled


def test_a_stop_that_another_page_asked_for_is_shown(home, busy):
    jobs.stop(busy.run)
    app = open_page("train", run=busy.run.id)
    shown = as_read(app.get("progress")[0].proto.text)
    assert shown.startswith("Stopping: evaluating and saving the best model so far, about")
    assert "Stopping" in said(app) and "Running" not in said(app)
    assert button(app, "Stop").disabled


def test_a_worker_without_a_sign_of_life_can_be_ended(home):
    growing = GrowingRun(home)
    growing.grow(5)
    worker = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        growing.run.update(**processes.identity(worker.pid))
        assert not open_page("train", run=growing.run.id).warning
        long_ago = time.time() - 3 * runs.NO_EVENT
        os.utime(growing.run.path / "events.jsonl", (long_ago, long_ago))
        app = open_page("train", run=growing.run.id)
        assert "not responded for about 1 h 30 min" in said(app)
        button(app, "Kill it").click().run()
        worker.wait(10)
    finally:
        worker.kill()
        worker.wait()
    assert growing.run.status == "failed"
    assert primary(app) == ["Resume from the start"]


@pytest.mark.parametrize("page", ["train", "runs"])
@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        ("paused", None, "Paused in epoch 3 of stage 2 (unfrozen), step 345"),
        ("paused", "the disk is nearly full", "The disk is nearly full."),
        ("interrupted", "the worker stopped unexpectedly", "The worker stopped unexpectedly."),
        ("failed", "the loss was not a number", "The loss was not a number."),
    ],
)
def test_a_run_that_was_broken_off_says_why_and_is_resumed(home, page, status, error, words):
    run = made(home, "broken", status, step=345, error=error, started=1.0, ended=2.0)
    app = open_page(page, run=run.id)
    assert words in said(app)
    assert primary(app) == ["Resume from step 345"]
    button(app, "Resume from step 345").click().run()
    assert not app.exception and not app.error
    assert run.status == "queued" and queue.waiting(home) == [run.id]


def test_without_a_checkpoint_a_run_is_resumed_from_the_start(home):
    run = made(home, "early", "interrupted", error="x")
    assert primary(open_page("train", run=run.id)) == ["Resume from the start"]


def test_a_run_out_of_memory_goes_on_with_smaller_batches(home):
    run = made(
        home, "large", "failed", step=345, error="the memory ran out", proposed_batch_size=16
    )
    app = open_page("train", run=run.id)
    assert primary(app) == ["Continue with batch size 16"]
    assert button(app, "Resume from step 345")
    button(app, "Continue with batch size 16").click().run()
    (new,) = (other for other in runs.list_runs(home) if other != run)
    assert new.recipe.batch_size == 16 and queue.waiting(home) == [new.id]
    assert app.query_params["run"] in (new.id, [new.id])
    assert any("Continues large" in link.proto.label for link in app.get("page_link"))
    app = open_page("train", run=run.id)
    assert any("Continued with smaller batches" in x.proto.label for x in app.get("page_link"))
    assert "Continue with batch size 16" not in [item.label for item in app.button]
    queue.remove(home, new.id)
    new.update(status="stopped")
    trash.delete(new)
    assert f"Continued with smaller batches as run {new.id}, which was deleted" in said(
        open_page("train", run=run.id)
    )


@pytest.mark.parametrize("page", ["train", "runs"])
def test_a_finished_run_is_trained_further(home, page):
    run = finished(home)
    app = open_page(page, run=run.id)
    assert primary(app) == ["Test this model"]
    assert "keeps its weights unless it finds better ones" in said(app)
    app.selectbox(key=f"more_trainable_{run.id}").select("all")
    app.number_input(key=f"more_epochs_{run.id}").set_value(2)
    app.number_input(key=f"more_learning_rate_{run.id}").set_value(1e-5).run()
    button(app, "Start").click().run()
    assert not app.exception and not app.error
    (new,) = (other for other in runs.list_runs(home) if other != run)
    (stage,) = new.recipe.stages
    assert (stage.name, stage.trainable, stage.epochs) == ("more", "all", 2)
    assert stage.learning_rate == 1e-5 and new.recipe.continue_from == run.id
    assert stage.optimizer == run.recipe.stages[-1].optimizer
    assert app.query_params["run"] in (new.id, [new.id])


def test_a_value_that_a_continuation_cannot_have_is_a_sentence(home):
    run = finished(home)
    app = open_page("train", run=run.id)
    app.number_input(key=f"more_learning_rate_{run.id}").set_value(0.0).run()
    button(app, "Start").click().run()
    assert any("learning_rate" in as_read(e.value) and "above 0" in e.value for e in app.error)
    assert len(runs.list_runs(home)) == 1


# -- the rail, and the supervisor -----------------------------------------------------------------


def test_the_rail_shows_what_runs_and_how_many_wait(home, busy):
    made(home, "first"), made(home, "second")
    shown = said(open_page("dataset"))
    assert "Running: **growing**" in shown and "2 waiting" in shown


def test_any_page_brings_a_killed_supervisor_back(home, monkeypatch):
    asked = []
    monkeypatch.setattr(jobs, "supervise", asked.append)
    open_page("dataset")
    assert not asked, "nothing waits and nothing runs"
    made(home, "first")
    open_page("dataset")
    assert asked


# -- Runs: the queue and the settings -------------------------------------------------------------


def test_the_queue_is_reordered_and_left(home):
    a, b, c = (made(home, name).id for name in "abc")
    app = open_page("runs")
    assert "Queue" in [item.value for item in app.subheader]
    app.button(key=f"up_{c}").click().run()
    assert queue.waiting(home) == [a, c, b]
    app.button(key=f"down_{a}").click().run()
    assert queue.waiting(home) == [c, a, b]
    app.button(key=f"first_{b}").click().run()
    assert queue.waiting(home) == [b, c, a]
    app.button(key=f"cancel_{c}").click().run()
    assert queue.waiting(home) == [b, a]
    assert not app.exception and not app.error
    assert app.button(key=f"up_{b}").disabled and app.button(key=f"down_{a}").disabled


def test_a_run_that_another_page_took_out_of_the_queue_is_a_sentence(home):
    made(home, "a")
    run = made(home, "b")
    app = open_page("runs")
    jobs.stop(run)
    app.button(key=f"up_{run.id}").click().run()
    assert "no longer waiting (it is stopped)" in said(app)


def test_moving_counts_from_where_the_run_is_now(home):
    a, b, c = (made(home, name) for name in "abc")
    app = open_page("runs")
    jobs.move(c, 1)  # another page was quicker
    app.button(key=f"up_{c.id}").click().run()
    assert queue.waiting(home) == [c.id, a.id, b.id]


def test_settings_of_the_host_are_changed_and_bad_ones_refused(home):
    app = open_page("runs")
    app.number_input(key="setting_runs_per_device@1").set_value(3).run()
    assert settings.get(home)["runs_per_device"] == 3
    app.toggle(key="setting_auto_resume@False").set_value(True).run()
    assert settings.get(home)["auto_resume"] is True
    app.number_input(key="setting_runs_per_device@3").set_value(99).run()
    assert any("whole number from 1 to 16; 99 was given" in item.value for item in app.error)
    assert settings.get(home)["runs_per_device"] == 3
    assert app.number_input(key="setting_runs_per_device@3").value == 3


def test_an_empty_queue_takes_no_room(home):
    assert "Queue" not in [item.value for item in open_page("runs").subheader]
