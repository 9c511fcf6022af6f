"""The Share tab: who may create links, whose links and images are shown."""

import shutil

import pytest

from engine import actions
from engine import home as homes
from engine.predict import guests
from engine.runs import runs
from pages._ui import who
from tests.support.gate import people
from tests.support.pages import button, open_page, said


@pytest.fixture
def run(trained_run, tmp_path, monkeypatch):
    """Tom's run in a home with accounts."""
    home = homes.home(tmp_path / "home")
    shutil.copytree(trained_run.path, home / homes.RUNS / trained_run.id)
    people(home)
    found = runs.get_run(home, trained_run.id)
    found.update(owner="tom")
    monkeypatch.setenv("GRAFT_HOME", str(home))
    return found


@pytest.fixture
def tab(run, monkeypatch):
    """Opens the tab as somebody."""

    def opened(name):
        monkeypatch.setattr(who, "name", lambda: name)
        app = open_page("test", run=run.id)
        app.session_state["test_view"] = "Share"
        app.run()
        assert not app.exception
        return app

    return opened


def labels(app):
    return [item.label for item in app.button]


def test_the_owner_creates_a_link_and_sees_what_guests_sent(run, tab):
    app = tab("tom")
    app.checkbox(key="share_keep").check().run()
    app.number_input(key="share_uses").set_value(3).run()
    button(app, "Create a link").click().run()
    assert not app.exception
    (link,) = actions.shared(run.home, run, "tom")
    assert (link.uses, link.collect, link.wall, link.by) == (3, True, False, "tom")
    assert "0 of 3 images" in said(app) and "keeps the images" in said(app)
    assert app.code[0].value.startswith("http://localhost/s/")
    assert "Phones cannot open localhost" in said(app)

    token = app.code[0].value.rsplit("/", 1)[1]
    guests.classify(run.home, token, run.examples()[0]["path"].read_bytes())
    app = tab("tom")  # another session does not have the secret
    assert "1 of 3 images" in said(app) and "1 image that guests sent" in said(app)
    assert not app.code and "only where it was created" in said(app)
    button(app, "Delete 1 image").click().run()
    button(app, "Revoke").click().run()
    assert not app.exception and not actions.shared(run.home, run, "tom")
    assert not actions.guest_images(run, "tom")


def test_others_see_nothing_of_it_and_an_admin_everything(run, tab):
    link, token, _ = actions.share(run, "tom", collect=True, wall=True)
    guests.classify(run.home, token, run.examples()[0]["path"].read_bytes())
    app = tab("vera")
    assert "Only its owner and admins can share this run" in said(app)
    assert not {"Create a link", "Revoke", "Delete 1 image", "Wall pictures"} & set(labels(app))
    app = tab("ada")
    assert {"Create a link", "Revoke", "Wall pictures", "Delete 1 image of tom"} <= set(labels(app))
    assert "by tom" in said(app)
