"""The command share: links with which guests try a run on their phones."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from engine import actions
from engine import home as homes
from engine.accounts import shares
from engine.cli.options import AsJson, Home, json_out, table
from engine.cli.runs import date
from engine.cli.terminal import say
from engine.errors import GraftError
from engine.host import qr, words
from engine.predict import guests
from engine.runs import runs

ADDRESS = "http://127.0.0.1:8501"


def share(
    run: Annotated[str | None, typer.Argument(help="A run's id, or latest.")] = None,
    hours: Annotated[
        float, typer.Option(help="How long the link works.", min=0.01, max=shares.MOST_HOURS)
    ] = shares.HOURS,
    uses: Annotated[
        int, typer.Option(help="Images it takes, of all guests.", min=1, max=shares.MOST_USES)
    ] = shares.USES,
    collect: Annotated[
        bool, typer.Option("--collect", help="Keep the guests' images (the page says so).")
    ] = False,
    wall: Annotated[
        bool, typer.Option("--wall", help="Also print a link to a wall that shows the answers.")
    ] = False,
    address: Annotated[
        str, typer.Option(help="Under which phones reach Graft, such as http://192.168.1.20:8501.")
    ] = ADDRESS,
    list_: Annotated[bool, typer.Option("--list", help="List the links.")] = False,
    revoke: Annotated[str | None, typer.Option(help="End the link with this id at once.")] = None,
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """Print a link with which guests try a run on their phones, and nothing else of Graft.

    The link is printed once. In a terminal, its QR code is shown too.
    """
    folder = homes.home(home)
    if list_:
        return _listed(folder, json_)
    if revoke:
        actions.revoke_share(folder, revoke)
        return say(f"Revoked {revoke}: the link and its wall are closed.")
    if run is None:
        raise GraftError("name the run to share, such as: python -m engine share latest")
    if "://" not in address:
        raise GraftError(f"an address looks like {ADDRESS}; {address!r} was given")
    found = runs.get_run(folder, run)
    made, token, wall_token = actions.share(
        found, hours=hours, uses=uses, collect=collect, wall=wall
    )
    guest, big = guests.links(address, token, wall_token)
    if near := guests.unreachable(address):
        say(f"{near[:1].upper()}{near[1:]}, or give it here with --address.", "yellow")
    if json_:
        return json_out(asdict(made) | {"link": guest, "wall_link": big})
    say(
        f"For {words.plural(made.uses, 'image')}, until {date(made.expires)}. To end it sooner: "
        f"python -m engine share --revoke {made.id}"
    )
    if sys.stdout.isatty():
        print(qr.terminal(guest))
    if big:
        print(big)
    print(guest)


def _listed(folder: Path, json_: bool) -> None:
    found = actions.shared(folder)
    if json_:
        return json_out([asdict(each) for each in found])
    if not found:
        return say("There are no links; create one with: python -m engine share RUN")
    table(
        ["id", "run", "by", "images", "until", "collects", "wall"],
        [
            [
                each.id,
                each.run,
                each.by,
                f"{each.used} of {each.uses}",
                date(each.expires) if each.expires > time.time() else "expired",
                "yes" if each.collect else "",
                "yes" if each.wall else "",
            ]
            for each in found
        ],
    )
