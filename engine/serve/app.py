"""A small HTTP endpoint for a finished run: images in, labels out.

Answers come from `engine.predict.classifier.Classifier`, so they are the same as on the Test page
and the command line, and TensorFlow is not loaded.

    POST /classify      one or more image files in the form field `files`
    GET  /about         run, classes, test accuracy, limits
    GET  /health        whether the endpoint is up
    GET  /openapi.json  the API for programs; GET /docs for people, without a network

There is no sign-in and no encryption. By default it listens on this host alone; on the open
internet it belongs behind a server that has both. Errors are JSON, `{"error": sentence}`.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse

from engine.errors import GraftError
from engine.host.words import listed, shown
from engine.predict import confidence
from engine.predict.classifier import Classifier
from engine.serve import answers, page
from engine.serve.limits import Bounds, Gate, Places, address_of

AT_ONCE = 2
"""Requests that are classified at the same time; each already uses all cores."""
UPLOAD_SECONDS = 120
"""How long a client may take to send a request, so that a slow one does not keep its place."""
CONNECTIONS = 256
"""Most open connections, waiting ones included."""
_MISSING = "send image files in the form field files, as with: curl -F files=@photo.jpg"
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": answers.Problem, "description": text}
    for code, text in (
        (400, "No file, or a form that cannot be read."),
        (408, "The request was not complete in time."),
        (413, "Too large, or too many files."),
        (422, "A parameter is out of its bounds."),
        (429, "Too many requests from this address; see Retry-After."),
        (500, "The run's model is damaged."),
        (503, "Too many requests at once; see Retry-After."),
    )
}
_FILES = {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
_FORM = {"type": "object", "required": ["files"], "properties": {"files": _FILES}}
_BODY = {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}


# -- the application ------------------------------------------------------------------------------


def application(classifier: Classifier, bounds: Bounds) -> FastAPI:
    """The FastAPI application of a classifier.

    Args:
        classifier: of the run.
        bounds: what one client may send.
    """
    # Read once, like the classifier: after a new calibration, the two would not match.
    known = confidence.known(classifier.run)
    app = FastAPI(
        title=f"Graft: {classifier.run.recipe.name}",
        version=classifier.run.id,
        description=f"Classifies images. Classes: {listed(classifier.classes, 20)}.",
        docs_url=None,  # FastAPI's own pages load scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(Gate, bounds=bounds)
    _answer_errors(app)
    working, places = asyncio.Semaphore(AT_ONCE), Places()

    @app.post(
        "/classify",
        response_model=answers.Answers,
        responses=_PROBLEMS,
        summary="Classify images",
        openapi_extra={"requestBody": _BODY},
    )
    async def classify(
        request: Request,
        top: int = Query(5, ge=1, le=100, description="Number of likeliest classes to list."),
    ):
        """Send one or more image files in the form field `files`. A file that cannot be read has
        an error instead of a label; the others are classified."""
        with places.take(address_of(request.scope)):
            form = await _form(request, bounds)
            try:
                files = _files(form.getlist("files"), bounds)
                async with working:
                    return await run_in_threadpool(
                        answers.classified, classifier, known, files, top
                    )
            finally:
                await form.close()

    @app.get("/about", summary="About this endpoint")
    def about() -> dict:
        """Run, classes, accuracy on its own test images with the 95% interval, and limits."""
        return answers.about(classifier, bounds)

    @app.get("/health", summary="Health check")
    def health() -> dict:
        """Answers as long as the endpoint is up; not limited by the rate."""
        return {"status": "ok", "run": classifier.run.id}

    _add_documentation(app)
    return app


def _add_documentation(app: FastAPI) -> None:
    """/docs, and / leading to it."""

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(page.page(app.openapi()), headers=page.HEADERS)

    @app.get("/", include_in_schema=False)
    def root() -> RedirectResponse:
        return RedirectResponse("/docs")


def _answer_errors(app: FastAPI) -> None:
    """Every error becomes JSON with one sentence."""

    @app.exception_handler(HTTPException)
    async def refused(_, error):
        own = {
            404: "there is nothing at this address; see /docs",
            405: "this address does not take this method; see /docs",
        }
        text = own.get(error.status_code, error.detail)
        return JSONResponse({"error": str(text)}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_, error):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse({"error": f"{where}: {first['msg'].lower()}"}, 422)

    @app.exception_handler(GraftError)
    async def damaged(_, error):
        return JSONResponse({"error": str(error)}, 500)

    @app.exception_handler(Exception)
    async def failed(_, error):  # the server prints the traceback
        return JSONResponse({"error": "the endpoint failed; its log says why"}, 500)


async def _form(request: Request, bounds: Bounds) -> FormData:
    """The request's form, with at most `bounds.files` files; the caller closes it."""
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            return await request.form(max_files=bounds.files, max_fields=10, max_part_size=10_000)
    except TimeoutError:
        text = f"the request was not complete after {UPLOAD_SECONDS} s"
        raise HTTPException(408, text, {"Connection": "close"}) from None
    except ClientDisconnect:
        raise HTTPException(
            400, "the client disconnected before the request was complete"
        ) from None
    except HTTPException as error:
        if error.status_code != 400:
            raise
        if "Too many files" in error.detail:
            text = f"a request can hold at most {bounds.files} files; send several requests"
            raise HTTPException(413, text) from None
        raise HTTPException(400, f"the form cannot be read ({error.detail})") from None


def _files(sent: list[UploadFile | str], bounds: Bounds) -> list[UploadFile]:
    """The files of a form. Raises HTTPException if there are none, or one is out of bounds."""
    files = []
    for file in sent:
        if not isinstance(file, UploadFile):
            text = "files holds text; send files, as with: curl -F files=@photo.jpg (with the @)"
            raise HTTPException(400, text)
        if not file.filename:
            raise HTTPException(400, _MISSING)
        if (file.size or 0) > bounds.file_bytes:
            name, most = shown(file.filename), f"{bounds.file_bytes:,}"
            raise HTTPException(413, f"{name} is larger than {most} bytes; make it smaller")
        files.append(file)
    if not files:
        raise HTTPException(400, _MISSING)
    return files


# -- the server -----------------------------------------------------------------------------------


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address.

    Raises:
        GraftError: if the address is not one of this host's, or the port is taken.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind)
    except OSError as error:
        raise GraftError(f"this host has no address {host} ({error.strerror})") from None
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(address)
        found.listen(CONNECTIONS)  # now, so that two processes never share a port
    except OSError as error:
        found.close()
        raise GraftError(
            f"cannot listen on port {port} of {host} ({error.strerror}); choose another port with "
            "--port"
        ) from None
    return found


def serve(app: FastAPI, listening: socket.socket) -> None:
    """Answers requests until the process is interrupted (Ctrl-C)."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Otherwise a client could choose its address (X-Forwarded-For) and escape the rate.
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=5,
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn closes everything, then passes it on
        return
