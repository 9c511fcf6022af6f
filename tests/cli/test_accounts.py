"""Commands about users and the log of what people did."""

import io
import json
import sys

import pytest
import typer

from engine import home as homes
from engine.accounts import sessions, users
from tests.support.cli import graft

PASSWORD = "correct horse battery"


@pytest.fixture
def command(own_home):
    """Runs a command that must succeed; returns what it printed."""

    def run(*arguments):
        done = graft(*arguments, home=own_home)
        assert done.returncode == 0, done.stderr
        return done

    return run


def test_users_are_added_changed_and_removed(own_home, command, monkeypatch):
    assert "no accounts" in command("users").stderr
    made = command("users", "add", "ada", "--role", "admin", "--generate")
    assert "everybody must sign in" in made.stderr
    password = made.stdout.strip()
    assert users.sign_in(own_home, "ada", password, "::1").role == "admin"
    assert password not in (own_home / homes.AUDIT).read_text()
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{PASSWORD}\n"))
    command("users", "add", "bob", "--password-stdin")
    token = sessions.begin(own_home, "bob")
    assert users.sign_in(own_home, "bob", PASSWORD, "::1").role == "viewer"
    command("users", "add", "cleo", "--email", "Cleo@example.org")
    assert command("users", "role", "bob", "--role", "trainer").stderr
    assert [line.split()[:3] for line in command("users").stdout.splitlines()] == [
        ["user", "role", "signs"],
        ["ada", "admin", "password"],
        ["bob", "trainer", "password"],
        ["cleo", "viewer", "cleo@example.org"],
    ]
    listed = json.loads(command("users", "--json").stdout)
    assert [row["role"] for row in listed] == ["admin", "trainer", "viewer"]
    assert "password" in listed[0] and PASSWORD not in json.dumps(listed)
    new = json.loads(command("users", "passwd", "bob", "--generate", "--json").stdout)
    assert sessions.user_of(own_home, token) is None
    assert users.sign_in(own_home, "bob", new["password"], "::2").name == "bob"
    command("users", "remove", "bob")
    assert users.get(own_home, "bob") is None


def test_a_password_is_asked_for_twice_on_a_terminal(own_home, command, monkeypatch):
    asked = []

    def prompt(text, **options):
        asked.append(options)
        return PASSWORD

    monkeypatch.setattr(typer, "prompt", prompt)
    monkeypatch.setattr(
        sys, "stdin", type("Terminal", (io.StringIO,), {"isatty": lambda _: True})()
    )
    command("users", "add", "ada", "--role", "admin")
    assert asked[0]["hide_input"] and asked[0]["confirmation_prompt"]
    assert users.sign_in(own_home, "ada", PASSWORD, "::1").name == "ada"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("add",), "give the user's name"),
        (("list", "ada"), "list takes no name"),
        (("role", "ada"), "give the new role"),
        (("role", "nobody", "--role", "viewer"), "no user 'nobody'"),
        (("passwd", "nobody", "--generate"), "no user 'nobody'"),
        (("remove", "ada", "--role", "admin"), "takes no --role"),
        (("remove", "ada"), "the only admin"),
        (("add", "ADA", "--generate"), "a user ada already"),
        (("add", "bob"), "on a terminal only"),
        (("add", "bob", "--generate", "--password-stdin"), "exclude each other"),
        (("add", "local", "--generate"), "uses itself"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(own_home, monkeypatch, arguments, says):
    users.add(own_home, "ada", "admin", email="ada@example.org")
    users.add(own_home, "vic", "viewer", email="vic@example.org")
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # no terminal
    done = graft("users", *arguments, home=own_home)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr and len(done.stderr.splitlines()) == 1
    assert [user.name for user in users.listed(own_home)] == ["ada", "vic"]


def test_the_log_says_who_did_what(own_home, command):
    assert "Nothing" in command("audit").stderr
    command("settings", "runs_per_device=2")
    command("users", "add", "ada", "--email", "ada@example.org", "--role", "admin")
    graft("users", "remove", "eve", home=own_home)
    lines = command("audit").stdout.splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == [
        "local  change users: removed eve (refused: there is no user 'eve'; list them with: "
        "python -m engine users)",
        "local  change users: added ada, role admin",
        "local  change settings: runs_per_device 2",
    ]
    assert len(command("audit", "--last", "1").stdout.splitlines()) == 1
    assert command("audit", "--who", "ada").stdout == ""
    rows = json.loads(command("audit", "--json").stdout)
    assert [row["action"] for row in rows] == ["change users", "change users", "change settings"]


def test_the_command_line_is_an_admin_also_where_there_are_accounts(own_home, command):
    users.add(own_home, "ada", "admin", email="ada@example.org")
    command("settings", "runs_per_device=2")
