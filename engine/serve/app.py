"""A small HTTP endpoint for a finished run: photos in, labels out, for people who want to call the model.

Light: answers come from `engine.predict.classifier.Classifier`, so they are those of the Test page and the command
line, and no TensorFlow is loaded. FastAPI and uvicorn are imported inside the functions.

    POST /classify      one or many image files in the form field `files`
    GET  /about         run, classes, test accuracy, limits
    GET  /health        whether it answers
    GET  /openapi.json  the same for programs; GET /docs for people, without a network

There is no sign-in and no encryption: it listens on this host alone unless told otherwise, and for the open
internet belongs behind a server that has both. Errors are JSON, `{"error": sentence}`.
"""

import asyncio
import socket
from collections import Counter

from pydantic import BaseModel

from engine.data.sources.zip_names import shown
from engine.errors import GraftError
from engine.images.memory import return_memory
from engine.predict import confidence
from engine.serve import page
from engine.serve.limits import Bounds, Gate, address_of

AT_ONCE = 2
"""Requests that are classified at the same time; each already uses all cores."""
WAITING = 16
"""Requests that may be under way; more are asked to come back."""
EACH = 8
"""Of them, those of one address: one client that sends slowly must not keep all others out."""
UPLOAD_SECONDS = 120
"""How long a client may take to send a request: a slow one must not keep its place for ever."""
CONNECTIONS = 256


class Label(BaseModel):
    """A class and how probable it is, 0 to 1."""

    label: str
    probability: float


class Classified(BaseModel):
    """What the classifier says of one file: label, probability and top, or else error.

    sure is "sure", "likely", "far" (likely, but farther from training than most images like it), "unsure"
    or "unlike" (like nothing in training, so that no answer should be trusted); likely lists the classes that are likely enough; distance is that to the nearest training
    images, 0 to 2. All three are null where the run knows nothing of its certainty.
    """

    name: str
    label: str | None
    probability: float | None
    top: list[Label]
    sure: str | None
    likely: list[str] | None
    distance: float | None
    error: str | None
    seconds: float


class Answers(BaseModel):
    """One answer for each file, in their order."""

    run: str
    answers: list[Classified]


class Problem(BaseModel):
    """What went wrong, in one sentence."""

    error: str


# -- the application --------------------------------------------------------------------------------


def application(classifier, bounds: Bounds):
    """The FastAPI application of a classifier.

    Args:
        classifier: an `engine.predict.classifier.Classifier`.
        bounds: what one client may ask for.
    """
    # Once, with the classifier: calibrated anew meanwhile, the two would not belong together.
    certainty = confidence.known(classifier.run)
    from fastapi import FastAPI, Query, Request
    from fastapi.exceptions import RequestValidationError
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse

    run = classifier.run
    problems = {
        code: {"model": Problem, "description": text}
        for code, text in (
            (400, "No file, or a form that cannot be read."),
            (413, "Too large, or too many files."),
            (422, "A parameter is out of its bounds."),
            (500, "The run's model is damaged."),
            (429, "Too many requests from this address; see Retry-After."),
            (503, "Too many requests at once; see Retry-After."),
        )
    }
    app = FastAPI(
        title=f"Graft: {run.recipe.name}",
        version=run.id,
        description=f"Tells {', '.join(classifier.classes[:20])}"
        f"{' and others' if len(classifier.classes) > 20 else ''} apart.",
        docs_url=None,  # FastAPI's own pages load scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(Gate, bounds=bounds)
    working, under_way = asyncio.Semaphore(AT_ONCE), Counter()

    @app.exception_handler(HTTPException)
    async def refused(_, error):
        own = {
            404: "there is nothing at this address; see /docs",
            405: "it is called in another way; see /docs",
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
    async def failed(_, error):  # the traceback is printed by the server
        return JSONResponse({"error": "the endpoint failed; its log says why"}, 500)

    @app.post(
        "/classify",
        response_model=Answers,
        responses=problems,
        summary="Classify images",
        openapi_extra={"requestBody": _BODY},
    )
    async def classify(
        request: Request,
        top: int = Query(5, ge=1, le=100, description="How many of the likeliest classes to name."),
    ):
        """Send one or many image files in the form field `files`. A file that cannot be read has an error
        instead of a label; the others are answered all the same."""
        own = address_of(request.scope)
        if under_way[own] >= EACH:
            text = f"this address has {EACH} requests under way; ask again when one is answered"
            raise HTTPException(429, text, {"Retry-After": "1"})
        if under_way.total() >= WAITING:
            raise HTTPException(
                503, "too many requests at once; ask again in a moment", {"Retry-After": "1"}
            )
        under_way[own] += 1
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                form = await _form(request, bounds)
            try:
                async with working:
                    files = form.getlist("files")
                    return await run_in_threadpool(_classify, classifier, certainty, files, top)
            finally:
                await form.close()
        except TimeoutError:
            text = f"the request was not complete after {UPLOAD_SECONDS} s"
            raise HTTPException(408, text, {"Connection": "close"}) from None
        finally:
            under_way[own] -= 1
            if not under_way[own]:
                del under_way[own]  # addresses come and go

    @app.get("/about", summary="What is served")
    def about() -> dict:
        """Run, classes, accuracy on its own test images with the 95% interval, and limits."""
        return _about(classifier, bounds)

    @app.get("/health", summary="Whether it answers")
    def health() -> dict:
        """Answers as long as the endpoint does; never counted by the rate."""
        return {"status": "ok", "run": run.id}

    @app.get("/docs", include_in_schema=False)
    def docs():
        return HTMLResponse(page.page(app.openapi()), headers=page.HEADERS)

    @app.get("/", include_in_schema=False)
    def root():
        return RedirectResponse("/docs")

    return app


_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["files"],
                "properties": {
                    "files": {"type": "array", "items": {"type": "string", "format": "binary"}}
                },
            }
        }
    },
}


async def _form(request, bounds):
    """The request's form with its files, within bounds; the caller closes it."""
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

    try:
        form = await request.form(max_files=bounds.files, max_fields=10, max_part_size=10_000)
    except HTTPException as error:
        if error.status_code != 400:
            raise
        if "Too many files" in error.detail:
            raise HTTPException(
                413, f"at most {bounds.files} files fit a request; send several"
            ) from None
        raise HTTPException(400, f"the form cannot be read ({error.detail})") from None
    except ClientDisconnect:
        raise HTTPException(400, "the request broke off") from None
    files = form.getlist("files")
    text = None
    if not files or any(isinstance(file, UploadFile) and not file.filename for file in files):
        text = "send image files in the form field files, as with: curl -F files=@photo.jpg"
    elif not all(isinstance(file, UploadFile) for file in files):
        text = "files holds text; send files, as with: curl -F files=@photo.jpg (with the @)"
    if text:
        await form.close()
        raise HTTPException(400, text)
    for file in files:
        if file.size > bounds.file_bytes:
            await form.close()
            text = f"{shown(file.filename)} is larger than {bounds.file_bytes:,} bytes; make it smaller"
            raise HTTPException(413, text)
    return form


def _classify(classifier, certainty, files, top) -> Answers:
    """Answers for open files, which are read one after another, not all at once."""
    answers = classifier.predict((file.file.read() for file in files), keep_images=False)
    return_memory()
    verdicts = certainty.verdicts(answers) if certainty else [None] * len(answers)
    rows = [
        _row(answer, verdict, shown(file.filename), top)
        for answer, verdict, file in zip(answers, verdicts, files, strict=True)
    ]
    return Answers(run=classifier.run.id, answers=rows)


def _row(answer, verdict, name, top) -> Classified:
    likely = [] if answer.error else answer.top(top)
    label, probability = likely[0] if likely else (None, None)
    return Classified(
        name=name,
        label=label,
        probability=probability,
        top=[Label(label=each, probability=p) for each, p in likely],
        sure=verdict and verdict.kind,
        likely=verdict and verdict.likely,
        distance=verdict and verdict.distance,
        error=answer.error,
        seconds=answer.seconds,
    )


def _about(classifier, bounds) -> dict:
    run = classifier.run
    test = (run.evaluation or {}).get("test")
    return {
        "run": run.id,
        "name": run.recipe.name,
        "backbone": run.recipe.backbone.title,
        "classes": classifier.classes,
        "image_size": classifier.size,
        "test": test and {key: test[key] for key in ("n", "accuracy", "interval")},
        "temperature": classifier.temperature,
        "limits": {
            "file_bytes": bounds.file_bytes,
            "files": bounds.files,
            "request_bytes": bounds.request_bytes,
            "requests_a_minute": bounds.rate,
        },
    }


# -- the server -------------------------------------------------------------------------------------


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address. Raises GraftError if it cannot be had."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind)
    except OSError as error:
        raise GraftError(f"there is no address {host} on this host ({error.strerror})") from None
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(address)
        # At once, so that two of them never share a port.
        found.listen(CONNECTIONS)
    except OSError as error:
        found.close()
        raise GraftError(
            f"port {port} of {host} cannot be had ({error.strerror}); choose another one with --port"
        ) from None
    return found


def serve(app, listening: socket.socket) -> None:
    """Answers requests until the process is interrupted (Ctrl-C)."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        # A client could otherwise call itself anybody (X-Forwarded-For), and have no rate.
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=5,
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn closes all, and then passes it on
        return
