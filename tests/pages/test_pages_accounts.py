"""Pages as a viewer, a trainer and an admin see them."""

import pytest

from engine import actions, load_preset
from engine import home as homes
from engine.accounts import roles, users
from engine.actions import log
from engine.host.background import Job
from engine.jobs import jobs
from engine.predict import feedback
from engine.runs import queue, runs
from pages._ui import who
from tests.support.accounts import add_people
from tests.support.home_of_before import unpacked
from tests.support.pages import button, from_source, open_page, said
from tests.support.pictures import encode, picture

NEEDED = "the role trainer is needed; vic has the role viewer"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with people, a finished run of tom and one of before accounts; nothing is started."""
    home, notes = unpacked(tmp_path)
    monkeypatch.setenv("GRAFT_HOME", str(home))
    monkeypatch.setattr(jobs, "supervise", lambda home: None)
    monkeypatch.setattr(
        Job, "start", lambda job, home, env=None, **given: homes.write_json(
            job.path, {"kind": job.kind, "parameters": given, "result": None}
        ),
    )  # fmt: skip
    jobs.stop(runs.get_run(home, notes["waiting"]))
    own = runs.create(load_preset("sample", ["name=toms"]), home, "tom")
    own.update(status="stopped")
    add_people(home)
    return home


@pytest.fixture
def as_user(monkeypatch):
    """Lets pages be opened by a user."""

    def be(name):
        monkeypatch.setattr(who, "name", lambda: name)

    return be


def labels(app):
    return {each.label for each in app.button}


def names(app):
    """Names of the runs in the list, with their owners."""
    table = app.dataframe[0].value
    return list(zip(table["Name"], table["Owner"], strict=True))


@pytest.mark.parametrize("page", ["dataset", "configure", "train"])
def test_a_viewer_reads_that_a_page_needs_another_role(home, as_user, page):
    as_user("vic")
    app = open_page(page)
    assert NEEDED in said(app) and not labels(app)
    as_user("tom")
    app = open_page(page)
    assert "is needed" not in said(app) and labels(app)


def test_a_viewer_starts_on_test_and_reads_runs(home, as_user):
    as_user("vic")
    first = runs.get_run(home, "latest")
    app = open_page("test", run=first.id)
    offered = next(each for each in app.selectbox if each.label == "Classifier").options
    assert len(offered) == 1 and offered[0].endswith("local")
    app = open_page("runs", run=first.id)
    assert "of local" in said(app)
    assert not labels(app) & {"Delete", "Use its recipe", "Start", "Clear the cache", "Import"}
    assert {each.label for each in app.expander if each.label} & {"Users", "Host settings"} == set()


def test_lists_show_ones_own_first_to_trainers_and_all_to_others(home, as_user):
    as_user("tom")
    app = open_page("runs")
    assert names(app) == [("toms", "tom")]
    filter = next(each for each in app.button_group if each.label == "Whose")
    filter.set_value("everyone").run()
    assert app.query_params["whose"] == "everyone" and len(names(app)) == 4
    as_user("tess")
    app = open_page("runs")
    assert "You have no runs yet" in said(app)
    app = open_page("runs", whose="everyone")
    assert len(names(app)) == 4
    as_user("ada")
    assert len(names(open_page("runs"))) == 4
    app = open_page("runs", whose="mine")
    assert "You have no runs yet" in said(app)


def test_without_accounts_there_are_no_owners_and_no_filter(home):
    for user in sorted(users.listed(home), key=lambda user: user.role == roles.ADMIN):
        users.remove(home, user.name)
    app = open_page("runs")
    assert "Owner" not in app.dataframe[0].value
    assert not [each for each in app.button_group if each.label == "Whose"]
    assert "There are no accounts" in said(app)


def test_buttons_of_somebody_elses_run_say_why_they_are_disabled(home, as_user):
    run = actions.start(load_preset("sample", ["name=waits"]), home, "tom")
    as_user("tess")
    app = open_page("train", run=run.id)
    cancel = button(app, "Cancel")
    assert cancel.disabled and "the role admin is needed; ask tom" in cancel.help
    as_user("tom")
    app = open_page("train", run=run.id)
    button(app, "Cancel").click().run()
    assert run.status == "stopped"
    assert [(row["who"], row["action"]) for row in log.entries(home, 1)] == [("tom", "stop a run")]


def test_the_queue_is_ordered_by_admins_and_left_by_owners(home, as_user):
    own, other = (
        actions.start(load_preset("sample"), home, name) for name in ("tom", "tess")
    )  # fmt: skip
    as_user("tom")
    app = open_page("runs")
    buttons = {each.key: each for each in app.button}
    assert not buttons[f"cancel_{own.id}"].disabled and buttons[f"cancel_{other.id}"].disabled
    assert buttons[f"first_{other.id}"].disabled
    as_user("ada")
    app = open_page("runs")
    {each.key: each for each in app.button}[f"first_{other.id}"].click().run()
    assert queue.waiting(home) == [other.id, own.id]


def test_a_click_after_the_role_was_taken_away_is_refused_in_a_sentence(home, as_user):
    as_user("tom")
    app = open_page("train")
    users.set_role(home, "tom", roles.VIEWER)
    before = len(runs.list_runs(home))
    button(app, "Start training").click().run()
    assert "to start a run, the role trainer is needed" in said(app).lower() or NEEDED in said(app)
    assert len(runs.list_runs(home)) == before and not app.exception
    users.remove(home, "tom")
    app.run()
    assert "has no account here" in said(app) and not app.exception


def test_admins_add_users_give_new_passwords_and_remove_them(home, as_user):
    as_user("ada")
    app = open_page("runs")
    next(each for each in app.text_input if each.key == "user_name").set_value("eve")
    next(each for each in app.selectbox if each.key == "user_role").set_value("trainer")
    button(app, "Add").click().run()
    password = app.code[0].value
    assert users.sign_in(home, "eve", password, "::1").role == "trainer"
    assert next(each for each in app.text_input if each.key == "user_name").value == ""
    button(app, "I have noted it").click().run()
    assert password not in [each.value for each in app.code]
    next(each for each in app.button if each.key == "password_eve").click().run()
    assert app.code[0].value != password
    with pytest.raises(Exception, match="wrong"):
        users.sign_in(home, "eve", password, "::2")
    next(each for each in app.selectbox if each.key == "role_eve@trainer").set_value("viewer").run()
    assert users.get(home, "eve").role == "viewer"
    next(each for each in app.selectbox if each.key == "role_ada@admin").set_value("viewer").run()
    assert "Ada is the only admin" in said(app) and users.get(home, "ada").role == "admin"
    next(each for each in app.button if each.key == "remove_eve").click().run()
    assert users.get(home, "eve") is None and not app.exception


def test_marks_and_batches_of_others_are_not_shown(home, as_user):
    run = runs.get_run(home, "latest")
    feedback.mark(run, "secret.png", encode(picture()), "cat", "dog", "tom")
    actions.classify(home, run, [("a.png", encode(picture()))], "toms batch", who="tom")
    batch = actions.batches(home, run, "tom")[0].key
    for name, sees in (("tess", False), ("tom", True), ("ada", True)):
        as_user(name)
        app = from_source(open_page("test", run=run.id, whose="everyone"), "Earlier batches")
        offered = [o for each in app.selectbox if each.label == "Batch" for o in each.options]
        assert any("toms batch" in option for option in offered) == sees
        app = open_page("test", run=run.id, batch=batch)
        assert ("toms batch" in said(app)) == sees and not app.exception


def test_a_page_shows_the_role_of_now_though_it_reads_the_file_once(home, as_user, monkeypatch):
    reads, listed = [], users.listed
    monkeypatch.setattr(users, "listed", lambda home: reads.append(home) or listed(home))
    as_user("tom")
    app = open_page("train")
    assert labels(app)
    app.run()
    assert len(reads) <= 1  # it may know the file from a page before
    for change, sees in (
        (lambda: users.set_role(home, "tom", roles.VIEWER), False),
        (lambda: users.set_role(home, "tom", roles.ADMIN), True),
        (lambda: users.remove(home, "tom"), False),
        (lambda: users.add(home, "tom", roles.TRAINER, email="tom@example.org"), True),
    ):
        change()
        app.run()
        assert bool(labels(app)) == sees and not app.exception
