"""Thumbnails by address, `/thumbs/KEY/CONTENT`, so browsers can cache them.

The name is the SHA-256 of the content: what an address shows never changes, and nobody can guess
an address.
"""

import re
import zipfile
from functools import lru_cache

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from engine import actions as gate
from engine import home as homes
from engine.data import datasets
from engine.errors import GraftError
from engine.images import thumbnails
from engine.predict import feedback
from engine.runs import runs
from pages._ui import who

ADDRESS = "/thumbs"
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}


def address(spec) -> str:
    """The base address of a dataset's thumbnails; the content follows."""
    return f"{ADDRESS}/{datasets.key(spec)}"


async def of_batch(request) -> Response:
    """The thumbnail of a batch's image, `/answers/KEY/ROW`; 404 if there is none, or if it is
    not the user's to see.

    See `engine.predict.batches`.
    """
    key, row = request.path_params["key"], request.path_params["row"]
    return await _given(_of_batch, key, row, request)


def _of_batch(key, row, request) -> bytes | None:
    try:
        return gate.batch(homes.home(), key, who.of_request(request)).thumbnail(int(row))
    except (OSError, ValueError, IndexError, zipfile.BadZipFile, GraftError):
        return None


async def of_mark(request) -> Response:
    """The thumbnail of a marked image, `/marks/RUN/CONTENT`; 404 if there is
    none, or if it is not the user's to see.

    See `engine.predict.feedback`.
    """
    run, content = request.path_params["run"], request.path_params["content"]
    return await _given(_of_mark, run, content, request)


def _of_mark(run, content, request) -> bytes | None:
    try:
        found = runs.get_run(homes.home(), run)
        seen = any(row["content"] == content for row in gate.marks(found, who.of_request(request)))
        return feedback.thumbnail(found, content) if seen else None
    except (OSError, GraftError):
        return None


async def _given(find, *what) -> Response:
    data = await run_in_threadpool(find, *what)
    if not data:
        return Response(status_code=404)
    return Response(data, media_type=_media_type(data), headers=FOREVER)


async def answer(request) -> Response:
    """The thumbnail of one image of a prepared dataset; 404 if there is none."""
    key, content = request.path_params["key"], request.path_params["content"]
    if not re.fullmatch(r"[a-z0-9-]{1,80}", key) or not re.fullmatch(r"[0-9a-f]{64}", content):
        return Response(status_code=404)
    return await _given(_thumbnail, key, content)


def _media_type(data: bytes) -> str:
    return "image/webp" if data[8:12] == b"WEBP" else "image/jpeg"


def _thumbnail(key, content) -> bytes | None:
    path = homes.home() / homes.DATASETS / key
    try:
        dataset, rows, store = _opened(path, (path / "manifest.json").stat().st_mtime_ns)
        return store.get(dataset, rows[content]) if content in rows else None
    except (OSError, GraftError):  # not prepared, or the file is gone or has changed
        return None


@lru_cache(maxsize=4)
def _opened(path, changed):
    dataset = datasets.Dataset(path)
    rows = {content: row for row, content in enumerate(dataset.contents.tolist())}
    return dataset, rows, thumbnails.Thumbnails(homes.home(), dataset.source_fingerprint)
