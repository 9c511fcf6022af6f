"""A small HTTP endpoint for a finished run: images in, labels out.

Answers come from `engine.predict.classifier.Classifier`, so they are the same as on the Test page
and the command line, and TensorFlow is not loaded.

    POST /classify      one or more image files in the form field `files`
    GET  /about         run, classes, test accuracy, limits
    GET  /health        whether the endpoint is up
    GET  /openapi.json  the API for programs; GET /docs for people, without a network

There is no encryption, and without keys (`engine.serve.keys`) anyone who reaches it may ask. By
default it listens on this host alone; on the open internet it belongs behind a server that
encrypts. Errors are JSON, `{"error": sentence}`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

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
from engine.serve.gate import CLIENT, HEALTH, Gate
from engine.serve.keys import Keys
from engine.serve.limits import Bounds, Queue

_MISSING = "send image files in the form field files, as with: curl -F files=@photo.jpg"
_PROBLEMS = {
    400: "No file, or a request that cannot be read.",
    401: "No valid key.",
    403: "The name of the host or the website is not allowed, or the key is not for this.",
    408: "The request was not complete in time.",
    413: "Too large, or too many files.",
    422: "A parameter is out of its bounds.",
    429: "Too many requests; try again after the seconds in the header Retry-After.",
    500: "The run's model is damaged, or the keys cannot be read.",
    503: "The endpoint is ending.",
}
_AFTER = {"description": "Seconds until the next try.", "schema": {"type": "integer"}}
_SCHEMES = {
    "key": {"type": "http", "scheme": "bearer", "description": "A key of `engine keys create`."},
    "browser": {"type": "http", "scheme": "basic", "description": "The key as the password."},
}


# -- the application ------------------------------------------------------------------------------


def application(
    classifier: Classifier,
    bounds: Bounds,
    names: Collection[str] = (),
    keys: Keys | None = None,
) -> Gate:
    """The application of a classifier, behind its gate.

    Args:
        classifier: of the run.
        bounds: what one client may send.
        names: hosts that it answers as (`engine.serve.gate.Gate`).
        keys: whose keys are valid; by default, everyone may ask.
    """
    app = FastAPI(
        title=f"Graft: {classifier.run.recipe.name}",
        version=classifier.run.id,
        description=f"Classifies images. Classes: {listed(classifier.classes, 20)}.",
        docs_url=None,  # FastAPI's own pages load scripts from elsewhere
        redoc_url=None,
    )
    _answer_errors(app)
    possible = {code for code in _PROBLEMS if keys or code != 401}
    _add_classify(app, classifier, bounds, _problems(possible))
    common = _problems(possible & {401, 403, 429, 500, 503})

    @app.get("/about", responses=common, summary="About this endpoint")
    async def about() -> dict:
        """Run, classes, accuracy on its own test images with the 95% interval, and limits."""
        return answers.about(classifier, bounds)

    @app.get(
        HEALTH,
        responses=_problems({403, 503}),
        summary="Health check",
        openapi_extra={"security": []},
    )
    async def health() -> dict:
        """Answers as long as the endpoint is up; it needs no key and is not limited."""
        return {"status": "ok", "run": classifier.run.id}

    _add_documentation(app, bool(keys))
    return Gate(app, bounds, names, keys)


def _problems(codes: set[int]) -> dict[int | str, dict[str, Any]]:
    """The part of the OpenAPI document about refusals."""
    found: dict[int | str, dict[str, Any]] = {
        code: {"model": answers.Problem, "description": _PROBLEMS[code]} for code in sorted(codes)
    }
    if 429 in found:
        found[429]["headers"] = {"Retry-After": _AFTER}
    return found


def _body(bounds: Bounds) -> dict[str, Any]:
    """The part of the OpenAPI document about the form of /classify."""
    file = {"type": "string", "format": "binary"}
    files = {"type": "array", "minItems": 1, "maxItems": bounds.files, "items": file}
    form = {
        "type": "object",
        "required": ["files"],
        "properties": {"files": files},
        "additionalProperties": False,
    }
    return {"required": True, "content": {"multipart/form-data": {"schema": form}}}


def _add_classify(app: FastAPI, classifier: Classifier, bounds: Bounds, problems: dict) -> None:
    """/classify; `problems` are its refusals, of `_problems`."""
    # Read once, like the classifier: after a new calibration, the two would not match.
    known = confidence.known(classifier.run)
    queue = Queue()

    @app.post(
        "/classify",
        response_model=answers.Answers,
        responses=problems,
        summary="Classify images",
        openapi_extra={"requestBody": _body(bounds)},
    )
    async def classify(
        request: Request,
        top: int = Query(5, ge=1, le=100, description="Number of likeliest classes to list."),
    ):
        """Send one or more image files in the form field `files`. A file that cannot be read has
        an error instead of a label; the others are classified."""
        client = request.scope[CLIENT]
        queue.check(client)  # before the files are sent
        form = await _form(request, bounds)
        try:
            files = _files(form, bounds)
            async with queue.turn(client):
                if await request.is_disconnected():
                    raise ClientDisconnect
                return await run_in_threadpool(answers.classified, classifier, known, files, top)
        finally:
            await form.close()


def _add_documentation(app: FastAPI, keys: bool) -> None:
    """/docs, and / leading to it; how to send a key, if the endpoint needs one."""
    schema = app.openapi()
    if keys:
        schema["components"]["securitySchemes"] = _SCHEMES
        schema["security"] = [{name: []} for name in _SCHEMES]
    app.openapi = lambda: schema  # type: ignore[method-assign]

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(page.page(schema), headers=page.HEADERS)

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

    @app.exception_handler(ClientDisconnect)
    async def gone(_, error):  # nobody reads it
        return JSONResponse({"error": "the client disconnected"}, 400)

    @app.exception_handler(GraftError)
    async def damaged(_, error):
        return JSONResponse({"error": str(error)}, 500)

    @app.exception_handler(Exception)
    async def failed(_, error):  # the server prints the traceback
        return JSONResponse({"error": "the endpoint failed; its log says why"}, 500)


async def _form(request: Request, bounds: Bounds) -> FormData:
    """The request's form, with at most `bounds.files` files; the caller closes it."""
    try:
        return await request.form(max_files=bounds.files, max_fields=10, max_part_size=10_000)
    except HTTPException as error:
        if error.status_code != 400:
            raise
        if "Too many files" in error.detail:
            text = f"a request can hold at most {bounds.files} files; send several requests"
            raise HTTPException(413, text) from None
        raise HTTPException(400, f"the form cannot be read ({error.detail})") from None


def _files(form: FormData, bounds: Bounds) -> list[UploadFile]:
    """The files of a form. Raises HTTPException if there are none, or one is out of bounds."""
    files = []
    for name, file in form.multi_items():
        if name != "files":
            raise HTTPException(400, f"the form has an unknown field {shown(name)}; {_MISSING}")
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
