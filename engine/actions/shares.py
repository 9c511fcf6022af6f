"""What people do with share links, their walls, and the images that guests sent. Light."""

from __future__ import annotations

from pathlib import Path

from engine.accounts import roles, shares
from engine.accounts.shares import HOURS, USES, Share
from engine.actions.log import LOCAL, logged
from engine.errors import RunError
from engine.predict import guest_images as images
from engine.predict import guests
from engine.predict.guest_images import GuestImage
from engine.runs.runs import Run


def share(
    run: Run,
    who: str = LOCAL,
    *,
    hours: float = HOURS,
    uses: int = USES,
    collect: bool = False,
    wall: bool = False,
) -> tuple[Share, str, str | None]:
    """`engine.accounts.shares.create`, for a finished run. Raises RunError for another."""
    limits = {"hours": hours, "uses": uses, "collect": collect, "wall": wall}
    with logged(run.home, who, "share a run", run.owner, run=run.id, **limits) as line:
        if not run.finished:
            raise RunError(f"run {run.id} has no model to share; choose a finished run")
        made = shares.create(
            run.home, run.id, who, hours=hours, uses=uses, collect=collect, wall=wall
        )
        line["share"] = made[0].id
    return made


def shared(home: Path, run: Run | None = None, who: str = LOCAL) -> list[Share]:
    """`engine.accounts.shares.listed`, of those that somebody may see; of one run, or of all."""
    found = shares.listed(home)
    return [
        each
        for each in found
        if (run is None or each.run == run.id) and roles.sees(home, who, each.by)
    ]


def revoke_share(home: Path, identity: str, who: str = LOCAL) -> None:
    """`engine.accounts.shares.revoke`; its wall ends with it."""
    owner = next((each.by for each in shares.listed(home) if each.id == identity), None)
    with logged(home, who, "revoke a share", owner, share=identity):
        shares.revoke(home, identity)
        guests.take_down(identity)


def clear_wall(found: Share, home: Path, ids: set[str] | None = None, who: str = LOCAL) -> int:
    """`engine.predict.guests.take_down`: all pictures of a wall of this process, or some."""
    with logged(home, who, "clear a wall", found.by, share=found.id) as line:
        line["images"] = count = guests.take_down(found.id, ids)
    return count


def guest_images(run: Run, who: str = LOCAL) -> list[GuestImage]:
    """`engine.predict.guest_images.listed`, of those that somebody may see."""
    return [each for each in images.listed(run) if roles.sees(run.home, who, each.by)]


def delete_guest_images(run: Run, by: str, who: str = LOCAL) -> int:
    """`engine.predict.guest_images.clear`."""
    with logged(run.home, who, "delete guests' images", by, run=run.id) as line:
        line["images"] = count = images.clear(run, by)
    return count
