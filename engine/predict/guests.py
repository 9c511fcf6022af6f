"""What guests do with a share link (`engine.accounts.shares`): an image each, its answer, the wall.

Light. Images and answers stay in the memory of this process, unless the sharer asked to collect the
images (`engine.predict.guest_images`). A wall shows the last answers to a link, with small pictures
that hold nothing else of the file, such as where it was taken.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from engine.accounts import roles, shares
from engine.accounts.shares import Share
from engine.accounts.store import AccountError
from engine.errors import DatasetError, RunError
from engine.host import addresses, qr
from engine.host.words import plural
from engine.images import thumbnails
from engine.images.memory import return_memory
from engine.predict import calibration, confidence, guest_images, reference
from engine.predict.classifier import Classifier
from engine.runs import files, runs

if TYPE_CHECKING:
    from PIL import Image

    from engine.predict.classifier import Answer

MOST_BYTES = 20_000_000
"""Largest image that a guest can send; photos of phones have 2 to 12 MB."""
SIDE = 320
"""Longest side of a picture on the wall, pixels."""
ON_WALL = 30
"""Answers on a wall; an older one gives way."""


@dataclass(frozen=True)
class Reply:
    """What a guest reads.

    Attributes:
        heading: the answer in a few words: a class, "perhaps" a class, or "none of these".
        label: the most probable class.
        probability: of it, 0 to 1.
        kind: of the verdict (`confidence.WORDS`); "" where the run has no confidence data.
        word: the kind in words.
        sentence: the verdict.
        top: the three most probable classes, [(label, probability)].
    """

    heading: str
    label: str
    probability: float
    kind: str
    word: str
    sentence: str
    top: list[tuple[str, float]]


@dataclass(frozen=True)
class Answered:
    """One image of a guest.

    Attributes:
        reply: None if the image could not be read.
        error: then why, one sentence; else None.
        kept: whether the image was collected; None if the sharer did not ask for it.
        left: images that the link still takes.
    """

    reply: Reply | None
    error: str | None
    kept: bool | None
    left: int


def check(home: Path, share: Share | None) -> Share:
    """The link, if a guest can send an image now.

    Raises:
        AccountError: one sentence for guests, if it expired, was revoked or used up, or whoever
            shared may no longer share.
    """
    found = check_open(home, share)
    if found.used >= found.uses:
        count = plural(found.uses, "image")
        raise AccountError(f"this link has taken its {count}; ask whoever sent it for a new one")
    return found


def check_open(home: Path, share: Share | None) -> Share:
    """Like `check`, but a link that is used up passes: its wall still shows the answers."""
    if share is None or time.time() >= share.expires:
        raise AccountError(shares.GONE)
    if not roles.may(home, share.by, "share a run"):
        raise AccountError(shares.GONE)
    return share


def classify(home: Path, token: str, data: bytes) -> Answered:
    """Classifies one image of a guest, which counts even if it cannot be read.

    Args:
        home: Graft's home.
        token: the guest's.
        data: the file, at most `MOST_BYTES`.

    Raises:
        AccountError: if the link takes no image (`check`).
        GraftError: if the run is gone or damaged; nothing is counted unless its model fails only
            now. This is for the log, not for guests.
    """
    share = check(home, shares.by_token(home, token))
    model, known = opened(home, share.run)
    try:
        share = shares.use(home, token)
    except AccountError:
        check(home, shares.by_token(home, token))  # somebody sent the last image meanwhile
        raise
    found = model.predict([data])[0]
    left = share.uses - share.used
    image, found.image = found.image, None
    if image is None:
        return Answered(None, found.error, None, left)
    reply = _reply(found, known)
    if share.wall:
        _hang(home, share, reply, image)
    kept = _kept(home, share, image) if share.collect else None
    del image
    return_memory()  # a photo of 64 million pixels took hundreds of megabytes
    return Answered(reply, None, kept, left)


def _kept(home: Path, share: Share, image: Image.Image) -> bool:
    try:
        guest_images.keep(home, share.run, share.by, image)
    except DatasetError as error:  # the guest still gets an answer, which says that it is not kept
        logging.getLogger("graft").error("%s", error)
        return False
    return True


def _reply(found: Answer, known: confidence.Confidence | None) -> Reply:
    top = found.top(3)
    label, probability = top[0]
    verdict = known.verdicts([found])[0] if known else None
    if verdict is None:
        sentence = "Confidence is not available for this classifier."
        return Reply(label, label, probability, "", "", sentence, top)
    heading = {"unlike": "none of these", "far": f"perhaps {label}"}.get(verdict.kind, label)
    word = confidence.WORDS[verdict.kind]
    return Reply(heading, label, probability, verdict.kind, word, verdict.text, top)


def links(base: str, token: str, wall: str | None = None) -> tuple[str, str | None]:
    """The addresses of the guest page and of the wall (None without a token of it).

    The wall shows the guests' address and its QR code. It gets both in the part behind the #, which
    browsers keep to themselves, so the server never has the guests' token.

    Args:
        base: under which browsers reach Graft, such as "http://192.168.1.20:8501".
        token, wall: of `shares.create`.
    """
    guest = f"{base.rstrip('/')}/s/{token}"
    if wall is None:
        return guest, None
    return guest, f"{base.rstrip('/')}/wall/{wall}#{quote(guest, safe='')}~{qr.dots(guest)}"


def unreachable(base: str) -> str | None:
    """A sentence if no other device can open an address, which names this host itself; else None.

    Args:
        base: see `links`.
    """
    host = urlsplit(base).hostname or ""
    if host not in addresses.LOOPBACK and not host.startswith("127."):
        return None
    return (
        f"phones cannot open {host}, which is this computer itself; start Graft with make app "
        "LAN=1 and open it under the address that it prints"
    )


# -- the classifier --------------------------------------------------------------------------------


_opening = threading.Lock()
"""Guests who come at once open a classifier once."""


def opened(home: Path, identity: str) -> tuple[Classifier, confidence.Confidence | None]:
    """The classifier of a finished run and its confidence data (None without), kept for the next.

    Raises:
        RunError: if the run is gone, not finished or damaged.
    """
    run = runs.get_run(home, identity)
    if not run.finished:
        raise RunError(f"run {run.id} has no model (any more)")
    names = (files.LITERT, calibration.FILE, reference.FILE)
    with _opening:
        return _opened(run.path, tuple(map(_stamp, (run.path / name for name in names))))


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@lru_cache(maxsize=4)
def _opened(path: Path, stamps: tuple[int, ...]):
    run = runs.Run(path)
    return Classifier(run), confidence.known(run)


# -- the wall --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hung:
    """An answer on the wall.

    Attributes:
        id: unique, also after a restart of the server.
        picture: an encoded JPEG, at most `SIDE` pixels wide and high.
        reply: the answer.
    """

    id: str
    picture: bytes
    reply: Reply


_walls: dict[str, deque[Hung]] = {}
"""Answers of each link, by its id, the newest first."""
_hanging = threading.Lock()


def _hang(home: Path, share: Share, reply: Reply, image: Image.Image) -> None:
    hung = Hung(secrets.token_hex(8), thumbnails.encode(image, SIDE), reply)
    known = {each.id for each in shares.listed(home)}
    with _hanging:
        for gone in _walls.keys() - known:
            del _walls[gone]
        if share.id in known:  # not revoked meanwhile
            _walls.setdefault(share.id, deque(maxlen=ON_WALL)).appendleft(hung)


def on_wall(identity: str) -> list[Hung]:
    """The answers to a link that this process has in memory, the newest first."""
    with _hanging:
        return list(_walls.get(identity, ()))


def take_down(identity: str, ids: set[str] | None = None) -> int:
    """Takes answers off a wall at once, all or those with some ids; returns how many."""
    with _hanging:
        wall = _walls.get(identity, deque())
        gone = [hung for hung in wall if ids is None or hung.id in ids]
        for hung in gone:
            wall.remove(hung)
    return len(gone)
