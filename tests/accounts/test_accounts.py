"""Users, roles, sessions and share links, as the store keeps them."""

import errno
import os
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine import actions
from engine import home as homes
from engine.accounts import roles, sessions, shares, store, users
from engine.accounts.store import AccountError
from engine.errors import DiskError

PASSWORD = "correct horse battery"


@pytest.fixture
def home(tmp_path):
    return homes.home(tmp_path / "home")


@pytest.fixture
def ada(home):
    return users.add(home, "ada", "admin", PASSWORD)


def later(monkeypatch, module, seconds):
    """Moves the clock that a module reads."""
    now = module.time.time
    monkeypatch.setattr(module.time, "time", lambda: now() + seconds)


def test_a_home_without_users_asks_for_no_sign_in(home):
    assert not users.needed(home)
    assert users.listed(home) == [] and shares.listed(home) == []
    assert not (home / homes.ACCOUNTS).exists()  # looking creates nothing
    users.add(home, "ada", "admin", PASSWORD)
    assert users.needed(home)


def test_a_password_is_not_in_the_file_and_only_the_owner_reads_it(home, ada):
    token = sessions.begin(home, "ada")
    for path in home.glob("accounts.db*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert PASSWORD.encode() not in path.read_bytes()
        assert token.encode() not in path.read_bytes()
    with sqlite3.connect(home / homes.ACCOUNTS) as db:
        assert db.execute("SELECT password FROM users").fetchone()[0].startswith("$argon2id$")


@pytest.mark.parametrize(
    ("name", "role", "password", "says"),
    [
        ("", "admin", PASSWORD, "cannot be a user's name"),
        ("../x", "admin", PASSWORD, "cannot be a user's name"),
        ("[a](http://b)", "admin", PASSWORD, "cannot be a user's name"),
        ("local", "admin", PASSWORD, "uses itself"),
        ("ADA", "admin", PASSWORD, "a user ada already"),
        ("bob", "king", PASSWORD, "no role 'king'"),
        ("bob", "viewer", "short", "15 to 1,024 characters"),
        ("bob", "viewer", None, "needs a password"),
    ],
)
def test_what_cannot_be_a_user_is_refused_with_a_sentence(home, ada, name, role, password, says):
    with pytest.raises(AccountError, match=says):
        users.add(home, name, role, password)
    assert [user.name for user in users.listed(home)] == ["ada"]


def test_an_emptied_file_lets_nobody_in(home, ada):
    for path in home.glob("accounts.db*"):
        path.write_bytes(b"")
    with pytest.raises(AccountError, match="empty or damaged"):
        users.needed(home)
    with pytest.raises(AccountError, match="empty or damaged"):
        users.add(home, "eve", "admin", PASSWORD)


def test_two_processes_that_add_the_first_user_make_one_file(home):
    with ThreadPoolExecutor(4) as pool:
        made = [pool.submit(users.add, home, f"user{i}", "admin", PASSWORD) for i in range(4)]
        assert sorted(each.result().name for each in made) == [f"user{i}" for i in range(4)]
    assert len(users.listed(home)) == 4
    assert not list(home.glob(".accounts*"))


def test_signing_in(home, ada):
    assert users.sign_in(home, " Ada ", PASSWORD, "::1").name == "ada"
    wrong = []
    for name, password in (("ada", "x" * 20), ("nobody", PASSWORD), ("ada", "")):
        with pytest.raises(AccountError) as error:
            users.sign_in(home, name, password, "10.0.0.1")
        wrong.append(str(error.value))
    assert len(set(wrong)) == 1  # it does not say whether there is such a user


def test_guessing_is_stopped_but_not_for_others(home, ada, monkeypatch):
    for _ in range(users.TRIES["name and address"]):
        with pytest.raises(AccountError, match="wrong"):
            users.sign_in(home, "ada", "guess " * 4, "10.0.0.1")
    with pytest.raises(users.TooManyAttempts, match="try again in 15 min"):
        users.sign_in(home, "ada", PASSWORD, "10.0.0.1")
    assert users.sign_in(home, "ada", PASSWORD, "10.0.0.2").name == "ada"
    later(monkeypatch, users, users.WINDOW + 1)
    assert users.sign_in(home, "ada", PASSWORD, "10.0.0.1").name == "ada"


def test_a_session_ends_by_signing_out_and_with_its_user(home, ada):
    users.add(home, "bob", "viewer", PASSWORD)
    first, second = sessions.begin(home, "bob"), sessions.begin(home, "bob")
    assert sessions.user_of(home, first).role == "viewer"
    users.set_role(home, "bob", "trainer")
    assert sessions.user_of(home, first).role == "trainer"
    sessions.end(home, first)
    assert sessions.user_of(home, first) is None
    assert sessions.user_of(home, second).name == "bob"
    users.set_password(home, "bob", PASSWORD + "!")
    assert sessions.user_of(home, second) is None
    third = sessions.begin(home, "bob")
    users.remove(home, "bob")
    assert sessions.user_of(home, third) is None
    assert sessions.user_of(home, "guess") is None


def test_who_signs_in_while_the_password_changes_gets_no_session(home, ada):
    users.add(home, "bob", "viewer", PASSWORD)
    found = users.sign_in(home, "bob", PASSWORD, "10.0.0.1")
    users.set_password(home, "bob", PASSWORD + "!")
    with pytest.raises(AccountError, match="has just changed"):
        actions.begin_session(home, "bob", "10.0.0.1", found.proof)
    found = users.sign_in(home, "bob", PASSWORD + "!", "10.0.0.1")
    assert sessions.user_of(home, sessions.begin(home, "bob", found.proof)).name == "bob"
    users.remove(home, "bob")
    users.add(home, "bob", "viewer", PASSWORD + "!")
    with pytest.raises(AccountError, match="has just changed"):
        sessions.begin(home, "bob", found.proof)


@pytest.mark.parametrize("typed", ["ada\ud800", "a" * 1000, "\0"])
def test_a_name_that_nobody_can_have_is_wrong_like_any_other(home, ada, typed):
    for name, password in ((typed, PASSWORD), ("ada", typed)):
        with pytest.raises(AccountError, match="the name or the password is wrong"):
            users.sign_in(home, name, password, "10.0.0.1")


@pytest.mark.parametrize("age", [sessions.IDLE + 1, sessions.MOST + 1])
def test_a_session_ends_by_age(home, ada, monkeypatch, age):
    token = sessions.begin(home, "ada")
    later(monkeypatch, sessions, age)
    assert sessions.user_of(home, token) is None


def test_a_session_in_use_lasts_until_the_absolute_limit(home, ada, monkeypatch):
    token, used = sessions.begin(home, "ada"), 0
    while used + sessions.IDLE - 1 < sessions.MOST:
        later(monkeypatch, sessions, sessions.IDLE - 1)
        used += sessions.IDLE - 1
        assert sessions.user_of(home, token)
    later(monkeypatch, sessions, sessions.MOST - used + 1)
    assert sessions.user_of(home, token) is None


@pytest.mark.parametrize("error", ["full", "read-only"])
def test_a_session_lasts_where_its_use_cannot_be_noted(home, ada, monkeypatch, error):
    token = sessions.begin(home, "ada")
    later(monkeypatch, sessions, sessions.SEEN_EVERY + 1)
    if error == "full":
        real = store.transaction

        def full(home, write=True):
            if write:
                raise DiskError.of(OSError(errno.ENOSPC, "No space left on device"))
            return real(home, write)

        monkeypatch.setattr(store, "transaction", full)
    else:
        monkeypatch.setattr(os, "access", lambda *_: False)
    assert sessions.user_of(home, token).name == "ada"
    later(monkeypatch, sessions, sessions.IDLE)
    assert sessions.user_of(home, token) is None


def test_the_last_admin_stays(home, ada):
    users.add(home, "bob", "viewer", PASSWORD)
    for change in (
        lambda: users.remove(home, "ada"),
        lambda: users.set_role(home, "ada", "viewer"),
    ):
        with pytest.raises(AccountError, match="the only admin"):
            change()
    users.set_role(home, "bob", "admin")
    users.remove(home, "ada")
    users.remove(home, "bob")  # the last user: the home has no accounts again
    assert not users.needed(home)


def test_what_each_role_may_do(home, ada):
    for name, role in (("vera", "viewer"), ("tom", "trainer"), ("tina", "trainer")):
        users.add(home, name, role, PASSWORD)
    for action, needed in roles.NEEDED.items():
        for who, role in (("vera", "viewer"), ("tom", "trainer"), ("ada", "admin")):
            allowed = users.ROLES.index(role) >= users.ROLES.index(needed)
            assert roles.may(home, who, action, owner=who) == allowed, (who, action)
        assert roles.may(home, roles.LOCAL, action, owner="tom")
    assert not roles.may(home, "tina", "stop a run", owner="tom")
    assert roles.may(home, "ada", "stop a run", owner="tom")
    with pytest.raises(AccountError, match="ask tom"):
        roles.check(home, "tina", "delete a run", owner="tom")
    users.remove(home, "tom")
    with pytest.raises(AccountError, match="no account"):
        roles.check(home, "tom", "start a run")


def test_a_share_counts_images_and_expires(home, ada, monkeypatch):
    share, token, wall = shares.create(home, "run-1", "ada", uses=2, wall=True)
    assert shares.by_token(home, token) == shares.by_wall(home, wall) == share
    assert shares.by_token(home, wall) is None and shares.by_token(home, share.id) is None
    assert shares.use(home, token).used == 1
    assert shares.use(home, token).used == 2
    with pytest.raises(AccountError, match="expired or was revoked"):
        shares.use(home, token)
    other, second, _ = shares.create(home, "run-1", "ada", hours=1)
    shares.revoke(home, other.id)
    with pytest.raises(AccountError, match="expired or was revoked"):
        shares.use(home, second)
    _, third, _ = shares.create(home, "run-1", "ada", hours=1)
    later(monkeypatch, shares, 3601)
    with pytest.raises(AccountError, match="expired or was revoked"):
        shares.use(home, third)
    assert not shares.by_token(home, third).works


def test_guests_at_once_share_the_uses(home, ada):
    _, token, _ = shares.create(home, "run-1", "ada", uses=5)
    got = []

    def guest():
        try:
            shares.use(home, token)
            got.append(True)
        except AccountError:
            got.append(False)

    threads = [threading.Thread(target=guest) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 5
