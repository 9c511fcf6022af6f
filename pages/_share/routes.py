"""The routes of share links: the guest page, its answers, and the wall.

    GET  /s/TOKEN              the guest page
    POST /s/TOKEN/classify     one image as the body; the answer as JSON
    GET  /wall/TOKEN           the wall
    GET  /wall/TOKEN/answers   what hangs on it, as JSON

Whoever has a token gets these and nothing else. Errors are one sentence; what broke goes to the
log.
"""

import asyncio
import base64
import functools
import html
import logging
import re
import secrets
import tempfile
from dataclasses import asdict
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from engine import home as homes
from engine.accounts import roles, shares
from engine.accounts.store import AccountError
from engine.errors import GraftError
from engine.host import words
from engine.predict import guests
from engine.serve.limits import Bounds, Held, Queue, Rate, address_of, too_many

BOUNDS = Bounds(file_bytes=guests.MOST_BYTES, files=1, request_bytes=guests.MOST_BYTES, rate=60)
SECONDS = 120
"""How long a guest may take to send an image."""
IN_MEMORY = 1_000_000
"""Bytes of an arriving image that are held in memory; more wait in a file that has no name."""
CLASSES = 8
"""Names of classes on the pages."""
LOST = "The classifier of this link was deleted or is damaged; ask whoever sent the link."
TOO_LARGE = f"The photo is larger than {guests.MOST_BYTES // 10**6} MB; choose a smaller one."

_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address is the secret
    "X-Robots-Tag": "noindex",
    "X-Content-Type-Options": "nosniff",
}
_HERE = Path(__file__).parent
_FILES = {path.name: path.read_text("utf-8") for path in _HERE.glob("*.*") if path.suffix != ".py"}
# The logo of the other pages.
_LOGO = """<svg class="logo" viewBox="0 0 138 40" role="img" aria-label="Graft">
<g fill="none" stroke="#2a8f6d" stroke-width="3.4" stroke-linecap="round">
<path d="M14 36V21"/><path d="M14 21L24 9"/><path d="M14 21C14 13 9 9 4 8"/></g>
<circle cx="26" cy="7" r="4" fill="#2a8f6d"/><circle cx="14" cy="21" r="3.4" fill="#e0822d"/>
<text x="40" y="30" font-family="Helvetica, Arial, sans-serif" font-size="25" font-weight="650"
 fill="#2a8f6d">Graft</text></svg>"""


def routes(base: str = "") -> list[Route]:
    """The routes.

    Args:
        base: path that the server puts before all addresses, such as "/graft".
    """
    desk = _Desk()
    return [
        Route(f"{base}/s/{{token}}", _guest_page),
        Route(f"{base}/s/{{token}}/classify", desk.classify, methods=["POST"]),
        Route(f"{base}/wall/{{token}}", _wall_page),
        Route(f"{base}/wall/{{token}}/answers", _wall_answers),
    ]


# -- answers to guests -----------------------------------------------------------------------------


def _as_sentences(handler):
    """A handler whose errors become JSON: {"error": sentence}, and "closed" if the link ended."""

    @functools.wraps(handler)
    async def handled(*arguments):
        try:
            return await handler(*arguments)
        except HTTPException as error:
            return _json({"error": _sentence(error.detail)}, error.status_code, error.headers)
        except GraftError as error:
            return _json({"error": _for_guests(error), "closed": True}, 410)

    return handled


class _Desk:
    """Takes the guests' images: so many at once, from each address and in all."""

    def __init__(self):
        self._rate, self._queue, self._held = Rate(BOUNDS.rate), Queue(), Held(BOUNDS)

    @_as_sentences
    async def classify(self, request) -> JSONResponse:
        """Answers one image."""
        home, token = homes.home(), request.path_params["token"]
        client = address_of(request.scope)
        await run_in_threadpool(lambda: guests.check(home, shares.by_token(home, token)))
        if wait := self._rate.wait(client):
            raise too_many(f"at most {BOUNDS.rate} photos a minute can be sent from here", wait)
        self._queue.check(client)
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
            taken = await self._receive(request, client, file)
            try:
                async with self._queue.turn(client):
                    found = await run_in_threadpool(_classified, home, token, file)
            finally:
                self._held.remove(client, taken)
        return _json(found, 422 if found["error"] else 200)

    async def _receive(self, request, client, file) -> int:
        """Writes the body to a file; returns its bytes, which count in `_held` then."""
        stated = request.headers.get("content-length", "")
        if stated.isdigit() and int(stated) > BOUNDS.file_bytes:
            raise HTTPException(413, TOO_LARGE)
        taken = 0
        try:
            async with asyncio.timeout(SECONDS):
                async for chunk in request.stream():
                    taken += len(chunk)
                    self._held.add(client, len(chunk))
                    if taken > BOUNDS.file_bytes:
                        raise HTTPException(413, TOO_LARGE)
                    file.write(chunk)
        except BaseException as error:
            self._held.remove(client, taken)
            if isinstance(error, TimeoutError):
                raise HTTPException(408, "the photo took too long; try again") from None
            if isinstance(error, ClientDisconnect):
                raise HTTPException(400, "the photo did not arrive completely") from None
            raise
        return taken


def _classified(home, token, file) -> dict:
    file.seek(0)
    found = guests.classify(home, token, file.read())
    if found.error:
        error = f"{_sentence(found.error)} It counts as one of this link's photos."
        return {"error": error, "left": found.left}
    notes = {None: None, True: "This photo was kept.", False: "This photo could not be kept."}
    reply = asdict(found.reply)
    return {"error": None, "reply": reply, "left": found.left, "note": notes[found.kept]}


# -- pages -----------------------------------------------------------------------------------------


async def _guest_page(request) -> HTMLResponse:
    return await _page(_guest_texts, "guest", request)


async def _wall_page(request) -> HTMLResponse:
    return await _page(_wall_texts, "wall", request)


async def _page(texts, name, request) -> HTMLResponse:
    """A page with its texts, or the page of one sentence."""
    try:
        found = await run_in_threadpool(texts, homes.home(), request.path_params["token"])
    except GraftError as error:
        return _html("closed", {"sentence": _for_guests(error)}, 410)
    return _html(name, found | {"script": _FILES[f"{name}.js"]})


def _guest_texts(home, token) -> dict[str, str]:
    share = guests.check(home, shares.by_token(home, token))
    who = "whoever sent you this link" if share.by == roles.LOCAL else share.by
    kept = "Your photos are not kept."
    if share.collect:
        kept = f"Your photos are kept by {who}, without where and when they were taken."
    wall = " A small picture of each is shown on a wall with its answer." if share.wall else ""
    left = f"{words.plural(share.uses - share.used, 'photo')} left."
    texts = _texts(home, share) | {"kept": kept, "wall": wall, "left": left}
    return texts | {"most": str(guests.MOST_BYTES)}


def _wall_texts(home, token) -> dict[str, str]:
    return _texts(home, guests.check_open(home, shares.by_wall(home, token)))


def _texts(home, share) -> dict[str, str]:
    classifier, _ = guests.opened(home, share.run)
    test = (classifier.run.evaluation or {}).get("test")
    correct = test and words.percent(test["accuracy"], 0)
    return {
        "title": words.shown(classifier.run.recipe.name),
        "knows": f"Recognises {words.listed(classifier.classes, CLASSES)}.",
        "accuracy": f"It classified {correct} of its test images correctly. " if correct else "",
    }


@_as_sentences
async def _wall_answers(request) -> JSONResponse:
    """What hangs on a wall; the pictures only of what is newer than `?after=ID`."""
    home, token = homes.home(), request.path_params["token"]
    find = functools.partial(guests.check_open, home)
    share = await run_in_threadpool(lambda: find(shares.by_wall(home, token)))
    hung = guests.on_wall(share.id)
    ids = [each.id for each in hung]
    after = request.query_params.get("after")
    fresh = hung[: ids.index(after)] if after in ids else hung
    return _json(
        {
            "ids": ids,
            "fresh": [_hung(each) for each in fresh],
            "used": share.used,
            "uses": share.uses,
        }
    )


def _hung(each: guests.Hung) -> dict:
    picture = "data:image/jpeg;base64," + base64.b64encode(each.picture).decode()
    return {"id": each.id, "picture": picture} | asdict(each.reply)


# -- what all answers share ------------------------------------------------------------------------


def _for_guests(error: GraftError) -> str:
    """What guests read of an error: of a link all, of the host's files nothing."""
    if isinstance(error, AccountError):
        return _sentence(str(error))
    logging.getLogger("graft").error("a share link failed: %s", error)
    return LOST


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _html(name: str, texts: dict[str, str], status: int = 200) -> HTMLResponse:
    """A page whose script and style run by a number that is never used again, and that calls no
    other host. Texts are escaped."""
    nonce = secrets.token_urlsafe(16)
    code = {"look": _FILES["look.css"], "logo": _LOGO, "nonce": nonce}
    code["script"] = texts.pop("script", "")
    known = {key: html.escape(text) for key, text in texts.items()} | code
    # In one pass: a name that holds {{script}} stays a name.
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: known[found[1]], _FILES[f"{name}.html"])
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "img-src data: blob:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    return HTMLResponse(page, status, _HEADERS | {"Content-Security-Policy": policy})


def _json(content: dict, status: int = 200, headers=None) -> JSONResponse:
    return JSONResponse(content, status, _HEADERS | dict(headers or {}))
