"""The gate: one ASGI middleware before every route, static file, upload and websocket."""

import contextlib
import logging
from urllib.parse import quote

from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, RedirectResponse

from engine import home as homes
from engine.errors import GraftError
from engine.serve.limits import address_of
from pages._gate import bodies, origin, sessions, sockets, table
from pages._gate.clients import Clients, TooMany
from pages._gate.sessions import Identity, Sessions
from pages._gate.uploads import UPLOADS
from pages._ui import who

SIGN_IN = "sign in to Graft first: open its address in your browser"
LOW = "the role {} is needed here; yours is {}"
CLOSED = "Graft does not offer this"
BUSY = "too many requests at once from you; try again in a moment"
LARGE = "a request here may have at most {}"


class Refused(Exception):
    """A request that goes no further, with the answer's status and sentence."""

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status


class Gate:
    """ASGI middleware; its order is that of docs/security.md.

    Args:
        app: the ASGI application.
        hosts: of `origin.allowed_hosts`.
        base: `server.baseUrlPath` with a slash before it, or "".
        known: who is signed in.
    """

    def __init__(self, app, hosts: list[str], base: str, known: Sessions):
        self._app, self._hosts, self._base, self._known = app, tuple(hosts), base, known
        self._clients = Clients()

    async def __call__(self, scope, receive, send):
        """Forwards a request, answers with a sentence, or closes an unopened websocket."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        try:
            rule = self._rule(scope)
            identity = await self._identity(scope, rule)
            forward = self._socket if scope["type"] == "websocket" else self._request
            await forward(_named(scope, identity), receive, send, rule, identity)
        except Refused as refused:
            await self._refuse(refused, scope, receive, send)
        except TooMany:
            await self._refuse(Refused(429, BUSY), scope, receive, send)

    async def _request(self, scope, receive, send, rule, identity) -> None:
        # After signing out, Back must not show a page of before.
        send = origin.with_headers(send, keep=identity is None or identity.name is None)
        if rule.path == table.HEALTH:  # is answered however busy a client is
            return await self._app(scope, receive, send)
        async with self._clients.request(_client(scope, identity)):
            if scope["method"] in ("GET", "HEAD"):  # nothing here reads their body
                return await self._app(scope, receive, send)
            body, end = self._body(scope, receive, send, rule, identity)
            try:
                if why := body.grown(bodies.stated(scope) or 0):
                    return await PlainTextResponse(why, 413)(scope, receive, body.send)
                with contextlib.suppress(ClientDisconnect):  # nobody reads an answer
                    await self._app(scope, body.receive, body.send)
            finally:
                end()

    def _body(self, scope, receive, send, rule, identity):
        """The request's body, counted, and what to call when it no longer arrives."""
        if rule.most is not None:
            return bodies.Body(receive, send, _at_most(rule.most)), lambda: None
        session = self._path(scope)[len(table.UPLOAD) :].partition("/")[0]
        if why := UPLOADS.refusal(session, identity.name):
            raise Refused(403, why)
        with _readable():
            arriving = UPLOADS.arriving(session)
        return bodies.Body(receive, send, arriving.grown, arriving.end), arriving.end

    async def _socket(self, scope, receive, send, rule, identity) -> None:
        secret = sessions.token(scope)

        async def allowed() -> bool:
            now = await self._known.who(secret)
            return now is not None and now.name == identity.name

        with self._clients.socket(_client(scope, identity)):
            await sockets.Watched(send, allowed).run(self._app, scope, receive)

    def _path(self, scope) -> str:
        path = scope["path"]
        under = self._base and path.startswith(f"{self._base}/")
        return path[len(self._base) :] if under else path

    def _rule(self, scope) -> table.Rule:
        if why := origin.why_not(scope, self._hosts):
            raise Refused(403, why)
        rule = table.rule(self._path(scope))
        socket = scope["type"] == "websocket"  # what everyone reaches has none
        if rule.who == table.NOBODY or (socket and rule.who == table.EVERYONE):
            raise Refused(404, CLOSED)
        return rule

    async def _identity(self, scope, rule: table.Rule) -> Identity | None:
        if rule.who == table.EVERYONE:
            return None
        with _readable():
            identity = await self._known.who(sessions.token(scope))
        if identity is None:
            raise Refused(401, SIGN_IN)
        if not table.allows(rule, identity.role):
            raise Refused(403, LOW.format(rule.who, identity.role))
        return identity

    async def _refuse(self, refused: Refused, scope, receive, send) -> None:
        if refused.status == 403:
            host, page = origin.header(scope, b"host"), origin.header(scope, b"origin")
            logging.getLogger("graft").warning("refused (%r from %r): %s", host, page, refused)
        if scope["type"] == "websocket" and refused.status == 401:
            return await sockets.send_away(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})  # a policy was violated
        later = {"Retry-After": "1"} if refused.status == 429 else None
        answer = PlainTextResponse(str(refused), refused.status, later)
        if refused.status == 401 and _is_page(scope):
            asked = scope["path"] + ("?" if scope["query_string"] else "")
            asked += scope["query_string"].decode("latin-1")
            answer = RedirectResponse(f"{self._base}/sign-in?next={quote(asked, safe='')}", 303)
        await answer(scope, receive, origin.with_headers(send))


@contextlib.contextmanager
def _readable():
    """Refuses a request while a file of the home that decides about it cannot be read."""
    try:
        yield
    except GraftError as error:
        raise Refused(503, str(error)) from None


def _at_most(most: int):
    """See `bodies.Body`."""
    why = LARGE.format(homes.size_text(most))
    return lambda count: why if count > most else None


def _client(scope, identity: Identity | None) -> str:
    """Whose requests count together: a user's, or an address's."""
    if identity and identity.name:
        return identity.name
    return f"@{address_of(scope)}"


def _is_page(scope) -> bool:
    """Whether a browser asks for a page to show, rather than for a part of one."""
    accepts = origin.header(scope, b"accept") or ""
    return scope["method"] in ("GET", "HEAD") and "text/html" in accepts


def _named(scope, identity: Identity | None) -> dict:
    """The scope in which only the gate says who asks."""
    headers = [each for each in scope["headers"] if not each[0].lower().startswith(b"x-graft-")]
    if identity and identity.name:
        headers += [(name.encode(), identity.name.encode()) for name in who.HEADERS]
    return {**scope, "headers": headers}
