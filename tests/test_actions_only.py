"""Pages and commands change nothing but through `engine.actions`, where roles are checked."""

import pytest

from engine import actions
from tests.support import ROOT
from tests.support.writers import used, writers

CALLERS = [
    ROOT / "app.py",
    *sorted((ROOT / "pages").rglob("*.py")),
    *sorted((ROOT / "engine" / "cli").glob("*.py")),
]
ALLOWED = {
    "engine.home.home": "creates the home",
    "engine.home.folder": "creates the home",
    "engine.home.read_only": "tries whether the home can be written",
    "engine.jobs.jobs.active": "starts the supervisor again if it was killed",
    "engine.jobs.jobs.supervise": "starts the supervisor again if it was killed",
    "engine.jobs.jobs.wait": "looks after the supervisor",
    "engine.jobs.jobs.interrupt_to_stop": "is given the action that stops the run",
    "engine.predict.batches.sweep": "deletes what is too old, whoever asks",
    "engine.data.curation.current": "keeps what it computes from the decisions",
    "engine.doctor.doctor.examine": "tries whether the home can be written",
    "engine.imports.imports.sweep": "deletes what killed imports have left",
    "engine.accounts.users.sign_in": "the gate: counts attempts",
    "engine.accounts.sessions.end": "the gate: signing out",
    "engine.accounts.sessions.user_of": "the gate: when a session was last used",
    "engine.predict.guests.classify": "a share link counts its images",
    "engine.predict.guest_images.sweep": "deletes what is too old, whoever asks",
}
"""What is called directly, and why."""
TERMINAL = {
    "engine.home.replacing": "writes where the person at the terminal says",
    "engine.exports.exports.copy_to": "writes where the person at the terminal says",
    "engine.predict.batch_worker.parts": "writes only for a batch; a command keeps nothing",
}
"""The same for commands only."""
METHODS = {"batch.clear", "batch.choose", "batch.stop", "run.update"}


def test_the_search_finds_what_changes_files():
    known = """
        engine.data.datasets.prepare engine.data.datasets.forget engine.data.additions.add
        engine.data.curation.decide engine.data.sources.collection.create
        engine.data.sources.uploads.keep_upload engine.predict.batches.start
        engine.predict.feedback.mark engine.predict.feedback.unmark engine.runs.trash.delete
        engine.predict.calibrate.calibrate engine.exports.background.begin
        engine.exports.background.cancel engine.imports.imports.add engine.jobs.jobs.start
        engine.jobs.jobs.stop engine.jobs.jobs.kill engine.estimate.probes.start
        engine.estimate.probes.cancel engine.inspection.inspection.start
        engine.inspection.inspection.cancel engine.inspection.payback.start
        engine.features.cache.clear engine.features.cache.set_limit engine.host.settings.change
        engine.doctor.doctor.fix engine.accounts.users.add engine.accounts.users.remove
        engine.accounts.shares.create
    """.split()
    assert set(known) - writers() == set()
    reading = {"engine.runs.runs.list_runs", "engine.data.datasets.state", "engine.runs.trash.find"}
    assert reading & writers() == set()


@pytest.mark.parametrize("path", CALLERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_and_commands_call_no_function_that_changes_files(path):
    found = {name for name in used(path) & writers() if name.startswith("engine.")}
    own = {name for name in found if name.startswith(("engine.actions.", "engine.cli."))}
    allowed = {*ALLOWED, *TERMINAL} if "cli" in path.parts else set(ALLOWED)
    assert found - own - allowed == set()
    assert used(path) & METHODS == set()


def test_what_is_allowed_is_still_used():
    everything = set().union(*(used(path) for path in CALLERS))
    assert {name for name in {*ALLOWED, *TERMINAL} if name not in everything} == set()


def test_every_action_can_be_called_by_its_name():
    assert all(callable(getattr(actions, name)) for name in actions.__all__ if name != "LOCAL")
