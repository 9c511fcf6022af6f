"""Each action, by each role, on own things and on those of others."""

import io
from types import SimpleNamespace

import pytest

from engine import actions, load_preset
from engine import home as homes
from engine.accounts import roles, users
from engine.accounts.store import AccountError
from engine.actions import log
from engine.data import datasets
from engine.data.sources import collection
from engine.recipe import DatasetSpec
from engine.runs import runs, trash

PEOPLE = {"vic": roles.VIEWER, "tom": roles.TRAINER, "ada": roles.ADMIN}
OWNERS = (*PEOPLE, "somebody", roles.LOCAL)


class Reached(Exception):
    """The engine was called."""


def reach(*arguments, **options):
    raise Reached


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A home with a user of each role; for each owner a run, deleted run, batch and datasets."""
    home = homes.home(tmp_path_factory.mktemp("roles") / "home")
    for name, role in PEOPLE.items():
        users.add(home, name, role, email=f"{name}@example.org")
    made = {}
    for number, owner in enumerate(OWNERS):
        run, deleted = (runs.create(load_preset("sample"), home, owner) for _ in range(2))
        for each in (run, deleted):
            each.update(status="finished")
        trash.delete(deleted)
        spec = DatasetSpec(images=100 + number)
        datasets.claim(spec, home, owner)
        collection.create(home, f"built-{number}", None, owner)
        batch = SimpleNamespace(owner=owner, key="0" * 16, stop=reach, choose=reach, clear=reach)
        link = SimpleNamespace(by=owner, id="0" * 10, run=run.id)
        made[owner] = SimpleNamespace(
            home=home, owner=owner, run=run, deleted=deleted.id, spec=spec, batch=batch, link=link,
            name=f"built-{number}", recipe=load_preset("sample"),
        )  # fmt: skip
    return made


RUN = "engine.jobs.jobs"
ANY, OWN = False, True
# Action: (the call, the function of the engine behind it or "" for a method, whether it has an
# owner).
CALLS = {
    "sign in": (
        lambda w, who: actions.begin_session(w.home, who, "127.0.0.1"),
        "engine.accounts.sessions.begin",
        ANY,
    ),
    "start a run": (lambda w, who: actions.start(w.recipe, w.home, who), f"{RUN}.start", ANY),
    "stop a run": (lambda w, who: actions.stop(w.run, who), f"{RUN}.stop", OWN),
    "pause a run": (lambda w, who: actions.pause(w.run, who), f"{RUN}.pause", OWN),
    "resume a run": (lambda w, who: actions.resume(w.run, who), f"{RUN}.resume", OWN),
    "restart a run": (
        lambda w, who: actions.restart_smaller(w.run, 8, who),
        f"{RUN}.restart_smaller",
        OWN,
    ),
    "continue a run": (lambda w, who: actions.extend(w.run, [], who), f"{RUN}.continued", ANY),
    "kill a run": (lambda w, who: actions.kill(w.run, who), f"{RUN}.kill", OWN),
    "move a run": (lambda w, who: actions.move(w.run, 1, who), f"{RUN}.move", ANY),
    "delete a run": (lambda w, who: actions.delete(w.run, who), "engine.runs.trash.delete", OWN),
    "restore a run": (
        lambda w, who: actions.restore(w.home, w.deleted, who),
        "engine.runs.trash.restore",
        OWN,
    ),
    "empty the trash": (
        lambda w, who: actions.empty_trash(w.home, w.deleted, who),
        "engine.runs.trash.empty",
        ANY,
    ),
    "calibrate a run": (
        lambda w, who: actions.calibrate(w.run, None, who),
        "engine.predict.calibrate.remember",
        OWN,
    ),
    "export a run": (
        lambda w, who: actions.export(w.run, "onnx", who=who),
        "engine.exports.background.begin",
        OWN,
    ),
    "cancel an export": (
        lambda w, who: actions.cancel_export(w.run, "onnx", who=who),
        "engine.exports.background.cancel",
        OWN,
    ),
    "download an export": (
        lambda w, who: actions.download(w.run, SimpleNamespace(name="x", read_bytes=reach), who),
        "",
        ANY,
    ),
    "share a run": (
        lambda w, who: actions.share(w.run, who),
        "engine.runs.runs.Run.finished",
        OWN,
    ),
    "import a run": (
        lambda w, who: actions.import_run("x.zip", w.home, who=who),
        "engine.imports.imports.add",
        ANY,
    ),
    "measure a recipe": (
        lambda w, who: actions.measure("preflight", w.recipe, w.home, who=who),
        "engine.estimate.probes.start",
        ANY,
    ),
    "cancel a measurement": (
        lambda w, who: actions.cancel_measurement("preflight", w.recipe, w.home, who=who),
        "engine.estimate.probes.cancel",
        ANY,
    ),
    "upload a zip": (
        lambda w, who: actions.keep_upload(w.home, "a.zip", io.BytesIO(), None, who),
        "engine.data.sources.uploads.keep_upload",
        ANY,
    ),
    "prepare a dataset": (
        lambda w, who: actions.prepare(w.spec, w.home, who),
        "engine.data.datasets.prepare",
        ANY,
    ),
    "cancel preparing a dataset": (
        lambda w, who: actions.cancel_prepare(w.spec, w.home, who),
        "engine.data.datasets.cancel",
        OWN,
    ),
    "delete a prepared dataset": (
        lambda w, who: actions.forget(w.spec, w.home, who),
        "engine.data.datasets.forget",
        OWN,
    ),
    "inspect a dataset": (
        lambda w, who: actions.inspect(w.spec, w.home, who=who),
        "engine.inspection.inspection.start",
        ANY,
    ),
    "stop an inspection": (
        lambda w, who: actions.stop_inspection(w.spec, w.home, who=who),
        "engine.inspection.inspection.cancel",
        ANY,
    ),
    "create a dataset": (
        lambda w, who: actions.create_dataset(w.home, "new", None, who),
        "engine.data.sources.collection.create",
        ANY,
    ),
    "add images": (
        lambda w, who: actions.add_images(w.home, w.name, "cat", [], who=who),
        "engine.data.additions.add",
        OWN,
    ),
    "undo an addition": (
        lambda w, who: actions.undo_addition(w.home, w.name, None, who),
        "engine.data.sources.collection.undo",
        OWN,
    ),
    "decide about images": (
        lambda w, who: actions.decide(w.home, w.spec, "", [], who),
        "engine.data.curation.decide",
        OWN,
    ),
    "undo a decision": (
        lambda w, who: actions.undo(w.home, w.spec, who=who),
        "engine.data.curation.undo",
        OWN,
    ),
    "redo a decision": (
        lambda w, who: actions.undo(w.home, w.spec, None, True, who),
        "engine.data.curation.undo",
        OWN,
    ),
    "measure decisions": (
        lambda w, who: actions.measure_decisions(w.spec, w.home, w.recipe, who),
        "engine.inspection.payback.start",
        ANY,
    ),
    "stop measuring decisions": (
        lambda w, who: actions.stop_measuring_decisions(w.spec, w.home, w.recipe, who),
        "engine.inspection.payback.cancel",
        ANY,
    ),
    "classify images": (
        lambda w, who: actions.classify(w.home, w.run, [], "x", who=who),
        "engine.predict.batches.start",
        ANY,
    ),
    "change a batch": (lambda w, who: actions.stop_batch(w.batch, w.home, who), "", OWN),
    "delete a batch": (lambda w, who: actions.delete_batch(w.batch, w.home, who), "", OWN),
    "mark images": (
        lambda w, who: actions.mark(w.run, "a.png", b"", "cat", "dog", who=who),
        "engine.predict.feedback.mark",
        ANY,
    ),
    "delete marks": (
        lambda w, who: actions.unmark(w.run, "0" * 64, w.owner, who),
        "engine.predict.feedback.unmark",
        OWN,
    ),
    "revoke a share": (
        lambda w, who: actions.revoke_share(w.home, w.link.id, who),
        "engine.accounts.shares.revoke",
        OWN,
    ),
    "clear a wall": (
        lambda w, who: actions.clear_wall(w.link, w.home, who=who),
        "engine.predict.guests.take_down",
        OWN,
    ),
    "delete guests' images": (
        lambda w, who: actions.delete_guest_images(w.run, w.owner, who),
        "engine.predict.guest_images.clear",
        OWN,
    ),
    "change settings": (
        lambda w, who: actions.change_settings(w.home, who, min_free_mb=1),
        "engine.host.settings.change",
        ANY,
    ),
    "clear the cache": (
        lambda w, who: actions.clear_cache(w.home, who),
        "engine.features.cache.clear",
        ANY,
    ),
    "fix what is damaged": (
        lambda w, who: actions.fix(w.home, [], who),
        "engine.doctor.doctor.fix",
        ANY,
    ),
    "change users": (
        lambda w, who: actions.set_role(w.home, "vic", "admin", who),
        "engine.accounts.users.set_role",
        ANY,
    ),
    "change keys": (
        lambda w, who: actions.revoke_key(w.home, "laptop", who),
        "engine.serve.keys.revoke",
        ANY,
    ),
}
OTHERS = {
    "change users": [
        (
            lambda w, who: actions.add_user(w.home, "x", "admin", who=who),
            "engine.accounts.users.add",
        ),
        (lambda w, who: actions.remove_user(w.home, "vic", who), "engine.accounts.users.remove"),
        (
            lambda w, who: actions.set_password(w.home, "vic", "", who),
            "engine.accounts.users.set_password",
        ),
    ],
    "change settings": [
        (lambda w, who: actions.limit_cache(w.home, 1, who), "engine.features.cache.set_limit"),
    ],
    "change keys": [
        (
            lambda w, who: actions.create_key(w.home, "laptop", ["classify"], who),
            "engine.serve.keys.create",
        ),
    ],
    "change a batch": [(lambda w, who: actions.count_folder(w.batch, w.home, "", "", who), "")],
    "add images": [
        (
            lambda w, who: actions.add_zip(w.home, w.name, "x.zip", None, who),
            "engine.data.additions.add_zip",
        ),
        (
            lambda w, who: actions.collect(w.run, w.home, w.name, who),
            "engine.predict.feedback.collect",
        ),
    ],
    "import a run": [
        (
            lambda w, who: actions.import_upload("x.zip", b"", w.home, who=who),
            "engine.imports.imports.staging",
        ),
    ],
}
"""Further functions of an action: (the call, the function of the engine behind it)."""


def test_each_action_of_the_table_is_tried_here():
    assert set(CALLS) == set(roles.NEEDED)


def patched(monkeypatch, world, target):
    """Lets the engine's function report that it was called."""
    if target == "engine.runs.runs.Run.finished":
        monkeypatch.setattr(target, property(reach))
    elif target == "engine.accounts.shares.revoke":
        links = [each.link for each in world.values()]
        monkeypatch.setattr("engine.accounts.shares.listed", lambda home: links)
        monkeypatch.setattr(target, reach)
    elif target:
        monkeypatch.setattr(target, reach)


def tried(call, *arguments):
    """Whether the engine was reached; else the sentence that refused it."""
    with pytest.raises((Reached, AccountError)) as ended:
        call(*arguments)
    return ended.type is Reached or str(ended.value)


@pytest.mark.parametrize("whose", ["own", "other"])
@pytest.mark.parametrize("who", PEOPLE)
@pytest.mark.parametrize("action", CALLS)
def test_an_action_is_done_by_role_and_owner(world, monkeypatch, action, who, whose):
    first, behind, owned = CALLS[action]
    thing = world[who if whose == "own" else "somebody"]
    if action == "revoke a share":
        world = {thing.owner: thing}  # the only link
    role = PEOPLE[who]
    enough = users.ROLES.index(role) >= users.ROLES.index(roles.NEEDED[action])
    may = enough and (not owned or whose == "own" or role == roles.ADMIN)
    for call, target in [(first, behind), *OTHERS.get(action, [])]:
        patched(monkeypatch, world, target)
        done = tried(call, thing, who)
        assert done is True if may else isinstance(done, str), (action, who, whose, done)
        if not may:
            assert action in done and ("role admin" in done or roles.NEEDED[action] in done)
            last = log.entries(thing.home, 1)[0]
            assert (last["who"], last["action"], last["refused"]) == (who, action, done)


@pytest.mark.parametrize("action", CALLS)
def test_a_removed_user_is_refused_at_once_and_the_command_line_may_do_all(
    world, monkeypatch, action
):
    call, target, _ = CALLS[action]
    thing = world["somebody"]
    patched(monkeypatch, {"somebody": thing}, target)
    assert "'somebody' has no account here" in tried(call, thing, "somebody")  # not even the owner
    assert tried(call, thing, roles.LOCAL) is True


def test_a_changed_role_holds_for_the_next_action(world, monkeypatch):
    thing = world["somebody"]
    monkeypatch.setattr("engine.jobs.jobs.start", reach)
    users.add(thing.home, "eve", roles.TRAINER, email="eve@example.org")
    assert tried(actions.start, thing.recipe, thing.home, "eve") is True
    users.set_role(thing.home, "eve", roles.VIEWER)
    assert "the role trainer is needed" in tried(actions.start, thing.recipe, thing.home, "eve")
    users.remove(thing.home, "eve")
    assert "no account" in tried(actions.start, thing.recipe, thing.home, "eve")
