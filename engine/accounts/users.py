"""Users: names, passwords, roles, and signing in."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from engine.accounts import store
from engine.accounts.store import AccountError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

ROLES = ("viewer", "trainer", "admin")
"""From the least allowed to the most (`engine.accounts.roles`)."""
RESERVED = ("local", "guest", "everyone")
LEAST, MOST = 15, 1024
"""Characters of a password: at least 15 where nothing else proves who signs in (NIST SP 800-63B-4,
3.1.1.2); the upper bound keeps hashing cheap."""
WINDOW = 15 * 60
"""Seconds for which a failed sign-in counts."""
TRIES = {"name and address": 5, "address": 30, "name": 100}
"""Failed sign-ins within WINDOW before the next must wait. The last is large, or anybody could lock
somebody else out; it limits guessing from many addresses (NIST SP 800-63B-4, 3.2.2: at most 100).
"""


class TooManyAttempts(AccountError):
    """Sign-ins failed too often.

    Attributes:
        seconds: until the next may be tried.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = max(1, round(seconds))
        minutes = -(-self.seconds // 60)
        super().__init__(f"too many sign-ins failed; try again in {minutes} min")


@dataclass(frozen=True)
class User:
    """Somebody with an account.

    Attributes:
        name: shown to others.
        role: one of `ROLES`.
        email: address at the OpenID provider, if they sign in there.
        created: unix seconds.
        password: whether they have a password here.
        proof: changes with the password, and with a new user of the same name.
    """

    name: str
    role: str
    email: str | None
    created: float
    password: bool
    proof: str = field(default="", repr=False, compare=False)


def needed(home: Path) -> bool:
    """Whether a home has users, so that its pages ask for a sign-in."""
    return store.exists(home) and bool(listed(home))


def listed(home: Path) -> list[User]:
    """All users by name."""
    if not store.exists(home):
        return []
    with store.transaction(home, write=False) as db:
        return [of_row(row) for row in db.execute("SELECT * FROM users ORDER BY name")]


def get(home: Path, name: str) -> User | None:
    """A user by name; None if there is none."""
    return _one(home, "name", name)


def by_email(home: Path, email: str) -> User | None:
    """The user with an e-mail address, in any case; None if there is none."""
    return _one(home, "email", email.strip().lower())


def _one(home: Path, column: str, value: str) -> User | None:
    if not store.exists(home):
        return None
    with store.transaction(home, write=False) as db:
        row = db.execute(f"SELECT * FROM users WHERE {column} = ?", (value,)).fetchone()
    return of_row(row) if row else None


def of_row(row) -> User:
    """The user of a row of the table."""
    email, created, password = row["email"], row["created"], row["password"]
    proof = store.digest(f"{created} {password}")
    return User(row["name"], row["role"], email, created, password is not None, proof)


def add(
    home: Path, name: str, role: str, password: str | None = None, email: str | None = None
) -> User:
    """Adds a user.

    Args:
        home: Graft's home.
        name: 1 to 40 letters, digits, and . _ - between them.
        role: one of `ROLES`.
        password: `LEAST` to `MOST` characters; None if they only sign in at a provider.
        email: their address at the OpenID provider.

    Raises:
        AccountError: if the name is taken or not allowed, or the password too short or too long.
    """
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,38}[A-Za-z0-9])?", name):
        raise AccountError(
            f"{name!r} cannot be a user's name: use 1 to 40 letters and digits, with . _ - between"
        )
    if name.lower() in RESERVED:
        raise AccountError(f"{name!r} is a name that Graft uses itself; choose another")
    _check_role(role)
    if password is None and not email:
        raise AccountError("a user needs a password, or an e-mail address at an OpenID provider")
    email = email.strip().lower() if email else None
    if email and not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
        raise AccountError(f"{email!r} is not an e-mail address")
    hashed = _hashed(password) if password is not None else None
    with store.transaction(home) as db:
        # "Ada" beside "ada" would let one pass for the other.
        taken = db.execute("SELECT name FROM users WHERE lower(name) = ?", (name.lower(),))
        if row := taken.fetchone():
            raise AccountError(f"there is a user {row['name']} already")
        if email and db.execute("SELECT 1 FROM users WHERE email = ?", (email,)).fetchone():
            raise AccountError(f"another user has the address {email}")
        now = time.time()
        db.execute("INSERT INTO users VALUES (?, ?, ?, ?, ?)", (name, hashed, email, role, now))
    return User(name, role, email, now, hashed is not None)


def remove(home: Path, name: str) -> None:
    """Removes a user with their sessions and share links; runs and batches keep their name."""
    with store.transaction(home) as db:
        _keep_an_admin(db, name)
        _must(db.execute("DELETE FROM users WHERE name = ?", (name,)), name)
        db.execute("DELETE FROM sessions WHERE user = ?", (name,))
        db.execute("DELETE FROM shares WHERE by = ?", (name,))


def new_password() -> str:
    """A random password of 20 characters, 120 bits, to be passed on to a user."""
    return secrets.token_urlsafe(15)


def set_role(home: Path, name: str, role: str) -> None:
    """Changes a user's role; it holds from their next click on."""
    _check_role(role)
    with store.transaction(home) as db:
        if role != ROLES[-1]:
            _keep_an_admin(db, name)
        _must(db.execute("UPDATE users SET role = ? WHERE name = ?", (role, name)), name)


def set_password(home: Path, name: str, password: str) -> None:
    """Changes a user's password and ends their sessions."""
    hashed = _hashed(password)
    with store.transaction(home) as db:
        _must(db.execute("UPDATE users SET password = ? WHERE name = ?", (hashed, name)), name)
        db.execute("DELETE FROM sessions WHERE user = ?", (name,))


def sign_in(home: Path, name: str, password: str, address: str) -> User:
    """The user with this name and password.

    Takes about 50 ms and 64 MiB (Argon2id with the parameters of RFC 9106, low memory), for an
    unknown name too.

    Args:
        home: Graft's home.
        name: as typed.
        password: as typed.
        address: of the browser, to limit attempts; for IPv6 its network, as one client has all of
            its addresses.

    Raises:
        AccountError: if they do not match; the sentence does not say which was wrong.
        TooManyAttempts: if too many failed before.
    """
    from argon2.exceptions import VerificationError

    # No user's name is longer, or has other characters.
    name = name.strip()[:41].encode("ascii", "replace").decode()
    _count_attempt(home, name.lower(), address)  # before the check: parallel ones count too
    with store.transaction(home, write=False) as db:
        row = db.execute("SELECT * FROM users WHERE lower(name) = ?", (name.lower(),)).fetchone()
    known = row["password"] if row and row["password"] else _nobody()
    try:
        _hasher().verify(known, password[: MOST + 1].encode(errors="surrogatepass"))
    except VerificationError:
        row = None
    if row is None or row["password"] is None:
        raise AccountError("the name or the password is wrong")
    with store.transaction(home) as db:
        db.execute("DELETE FROM attempts WHERE name = ? AND address = ?", (name.lower(), address))
    return of_row(row)


def _count_attempt(home: Path, name: str, address: str) -> None:
    now = time.time()
    ways = {
        "name and address": ("name = ? AND address = ?", (name, address)),
        "address": ("address = ?", (address,)),
        "name": ("name = ?", (name,)),
    }
    with store.transaction(home) as db:
        db.execute("DELETE FROM attempts WHERE at < ?", (now - WINDOW,))
        for way, (where, values) in ways.items():
            count, first = db.execute(
                f"SELECT count(*), min(at) FROM attempts WHERE {where}", values
            ).fetchone()
            if count >= TRIES[way]:
                raise TooManyAttempts(first + WINDOW - now)
        db.execute("INSERT INTO attempts VALUES (?, ?, ?)", (name, address, now))


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise AccountError(f"there is no role {role!r}; there are {', '.join(ROLES)}")


def _must(cursor, name: str) -> None:
    if not cursor.rowcount:
        raise AccountError(f"there is no user {name!r}; list them with: python -m engine users")


def _keep_an_admin(db, name: str) -> None:
    admins = [row["name"] for row in db.execute("SELECT name FROM users WHERE role = 'admin'")]
    others = db.execute("SELECT count(*) FROM users WHERE name != ?", (name,)).fetchone()[0]
    if admins == [name] and others:
        raise AccountError(f"{name} is the only admin; make another user admin first")


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher, profiles

    return PasswordHasher.from_parameters(profiles.RFC_9106_LOW_MEMORY)


@cache
def _nobody() -> str:
    """A hash that no password matches in practice: unknown names take as long as known ones."""
    return _hasher().hash(store.new_token())


def _hashed(password: str) -> str:
    if not LEAST <= len(password) <= MOST:
        raise AccountError(
            f"a password has {LEAST} to {MOST:,} characters, for example four random words; "
            f"this one has {len(password)}"
        )
    return _hasher().hash(password)
