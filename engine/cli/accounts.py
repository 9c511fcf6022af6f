"""Commands about accounts: users, and the log of what people did."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from engine import actions
from engine import home as homes
from engine.accounts import roles
from engine.accounts import users as accounts
from engine.actions import log
from engine.cli.options import AsJson, Home, json_out, line, table
from engine.cli.runs import date
from engine.cli.terminal import say
from engine.errors import GraftError
from engine.host.words import shown

Role = Literal["viewer", "trainer", "admin"]


def users(
    action: Annotated[
        Literal["list", "add", "remove", "passwd", "role"], typer.Argument(help="What to do.")
    ] = "list",
    name: Annotated[str | None, typer.Argument(help="The user's name.")] = None,
    role: Annotated[
        Role | None,
        typer.Option(
            help="For add (default: viewer) and role. Viewers test models; trainers also prepare "
            "datasets and train own runs; admins may do everything."
        ),
    ] = None,
    email: Annotated[
        str | None,
        typer.Option(help="For add: their address at your OpenID provider; then no password."),
    ] = None,
    generate: Annotated[
        bool, typer.Option("--generate", help="Make a random password and print it, once.")
    ] = False,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """List users; add or remove one, or change a password or a role.

    With the first user, everybody must sign in, on this host too. A change holds at once. A
    password is asked for twice, unless an option says where it comes from.
    """
    folder = homes.home(home)
    given: dict[str, object] = {"--role": role, "--email": email}
    given |= {"--generate": generate, "--password-stdin": password_stdin}
    _check(action, name, {option for option, value in given.items() if value})
    if action == "list" or name is None:
        return _listed(folder, json_)
    done: dict = {"user": name}
    if action == "add":
        password = None
        if not email or generate or password_stdin:
            password = _password(generate, password_stdin)
        made = actions.add_user(folder, name, role or roles.VIEWER, password, email)
        done |= asdict(made)
        _say_what_follows(folder, made)
    elif action == "passwd":
        if accounts.get(folder, name) is None:  # before a password is asked for
            raise GraftError(f"there is no user {name!r}; list them with: python -m engine users")
        password = _password(generate, password_stdin)
        actions.set_password(folder, name, password)
        say(f"The password of {name} is changed, and their sessions have ended.")
    elif action == "role":
        actions.set_role(folder, name, role or "")
        say(f"{name} has the role {role} from now on.")
    else:
        actions.remove_user(folder, name)
        say(f"Removed {name}: their sessions and share links have ended. Their runs stay.")
    if generate:
        say("This is the only time that the password is shown:")
        done["password"] = password
    if json_:
        json_out(done)
    elif generate:
        print(password)


_OPTIONS: dict[str, set[str]] = {
    "list": set(),
    "add": {"--role", "--email", "--generate", "--password-stdin"},
    "remove": set(),
    "passwd": {"--generate", "--password-stdin"},
    "role": {"--role"},
}


def _check(action: str, name: str | None, given: set[str]) -> None:
    """Raises GraftError for arguments that do not belong together."""
    if action == "list" and name:
        raise GraftError(f"list takes no name; {shown(name)!r} was given")
    if action != "list" and name is None:
        raise GraftError(f"give the user's name: python -m engine users {action} NAME")
    if action == "role" and not given:
        raise GraftError(f"give the new role: python -m engine users role {name} --role trainer")
    if wrong := sorted(given - _OPTIONS[action]):
        raise GraftError(f"users {action} takes no {wrong[0]}; leave it out")
    if {"--generate", "--password-stdin"} <= given:
        raise GraftError("--generate and --password-stdin exclude each other; leave one out")


def _password(generate: bool, from_stdin: bool) -> str:
    if generate:
        return accounts.new_password()
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise GraftError(
            "a password is asked for on a terminal only; add --generate, or give it with "
            "--password-stdin"
        )
    return typer.prompt("Password", hide_input=True, confirmation_prompt="The same again", err=True)


def _say_what_follows(folder: Path, made: accounts.User) -> None:
    say(f"Added {made.name}, {made.role}.")
    everybody = accounts.listed(folder)
    if len(everybody) == 1:
        say("From now on, everybody must sign in to Graft's pages, on this host too.")
    if all(each.role != roles.ADMIN for each in everybody):
        text = f"python -m engine users role {made.name} --role admin"
        say(f"Nobody is an admin yet. To make {made.name} one: {text}", "yellow")


def _listed(folder: Path, json_: bool) -> None:
    found = accounts.listed(folder)
    if json_:
        return json_out([asdict(each) for each in found])
    if not found:
        return say(
            "There are no accounts, so Graft's pages listen on this host only. "
            "To add the first: python -m engine users add NAME --role admin"
        )
    table(
        ["user", "role", "signs in with", "since"],
        [[each.name, each.role, _way(each), date(each.created)] for each in found],
    )


def _way(user: accounts.User) -> str:
    ways = ["password"] if user.password else []
    return " or ".join(ways + ([user.email] if user.email else []))


def audit(
    last: Annotated[int, typer.Option(help="How many entries.", min=1)] = 50,
    who: Annotated[
        str | None, typer.Option(help="Only what this user did; local for the command line.")
    ] = None,
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """Show who did what and when, and what was refused, the latest first."""
    found = log.entries(homes.home(home), last, who)
    if json_:
        return json_out(found)
    if not found:
        return say("Nothing is in the log.")
    for row in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["t"]))
        line(f"{when}  {shown(row['who']) or '–'}  {shown(log.in_words(row))}")
