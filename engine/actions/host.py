"""What people do with this host: settings, the cache, repairs, users."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.accounts import sessions, users
from engine.accounts.users import User
from engine.actions.log import LOCAL, logged
from engine.host import settings
from engine.serve import keys

if TYPE_CHECKING:
    from engine.doctor.home_checks import Finding


def change_settings(home: Path, who: str = LOCAL, **changes: Any) -> dict[str, Any]:
    """`engine.host.settings.change`."""
    with logged(home, who, "change settings", changes=changes):
        return settings.change(home, **changes)


def limit_cache(home: Path, gib: float, who: str = LOCAL) -> None:
    """`engine.features.cache.set_limit`."""
    from engine.features import cache

    with logged(home, who, "change settings", changes={"cache_limit_gib": gib}):
        cache.set_limit(home, gib)


def clear_cache(home: Path, who: str = LOCAL) -> tuple[int, int]:
    """`engine.features.cache.clear`."""
    from engine.features import cache

    with logged(home, who, "clear the cache") as line:
        freed, stay = cache.clear(home)
        line["bytes"] = freed
    return freed, stay


def fix(home: Path, findings: Iterable[Finding], who: str = LOCAL) -> list[Finding]:
    """`engine.doctor.doctor.fix`."""
    from engine.doctor import doctor

    with logged(home, who, "fix what is damaged") as line:
        done = doctor.fix(findings)
        line["fixed"] = [each.text for each in done]
    return done


# -- users -----------------------------------------------------------------------------------------


def add_user(
    home: Path,
    name: str,
    role: str,
    password: str | None = None,
    email: str | None = None,
    *,
    who: str = LOCAL,
) -> User:
    """`engine.accounts.users.add`."""
    with logged(home, who, "change users", added=name, role=role):
        return users.add(home, name, role, password, email)


def remove_user(home: Path, name: str, who: str = LOCAL) -> None:
    """`engine.accounts.users.remove`."""
    with logged(home, who, "change users", removed=name):
        users.remove(home, name)


def set_role(home: Path, name: str, role: str, who: str = LOCAL) -> None:
    """`engine.accounts.users.set_role`."""
    with logged(home, who, "change users", user=name, role=role):
        users.set_role(home, name, role)


def set_password(home: Path, name: str, password: str, who: str = LOCAL) -> None:
    """`engine.accounts.users.set_password`; the log does not contain the password."""
    with logged(home, who, "change users", user=name, changed="password"):
        users.set_password(home, name, password)


def begin_session(home: Path, name: str, address: str, proof: str | None = None) -> str:
    """`engine.accounts.sessions.begin`: somebody has signed in, from an address."""
    with logged(home, name, "sign in", address=address):
        return sessions.begin(home, name, proof)


# -- keys of the endpoint --------------------------------------------------------------------------


def create_key(home: Path, name: str, scopes: Sequence[str], who: str = LOCAL) -> str:
    """`engine.serve.keys.create`; the log does not contain the key."""
    with logged(home, who, "change keys", created=name, scopes=list(scopes)):
        return keys.create(home, name, scopes)


def revoke_key(home: Path, name: str, who: str = LOCAL) -> None:
    """`engine.serve.keys.revoke`."""
    with logged(home, who, "change keys", revoked=name):
        keys.revoke(home, name)
