"""The gate: one ASGI middleware before every route, static file, upload and websocket."""

import logging
from urllib.parse import quote

from starlette.responses import PlainTextResponse, RedirectResponse

from engine.accounts import users
from engine.errors import GraftError
from pages._gate import origin, sessions, sockets, table
from pages._gate.sessions import Identity, Sessions
from pages._ui import who

SIGN_IN = "sign in to Graft first: open its address in your browser"
LOW = "the role {} is needed here; yours is {}"
CLOSED = "Graft does not offer this"


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
        self._app, self._hosts, self._base, self._known = app, hosts, base, known

    async def __call__(self, scope, receive, send):
        """Forwards a request, answers with a sentence, or closes an unopened websocket."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        try:
            rule = self._rule(scope)
            identity = await self._identity(scope, rule)
        except Refused as refused:
            return await self._refuse(refused, scope, receive, send)
        scope = _named(scope, identity)
        if scope["type"] == "http":
            # After signing out, Back must not show a page of before.
            kept = origin.with_headers(send, keep=identity is None or identity.name is None)
            return await self._app(scope, receive, kept)
        secret = sessions.token(scope)

        async def allowed() -> bool:
            now = await self._known.who(secret)
            return now is not None and now.name == identity.name

        await sockets.Watched(send, allowed).run(self._app, scope, receive)

    def _rule(self, scope) -> table.Rule:
        if why := origin.why_not(scope, self._hosts):
            raise Refused(403, why)
        path = scope["path"]
        if self._base and path.startswith(f"{self._base}/"):
            path = path[len(self._base) :]
        rule = table.rule(path)
        if rule.who == table.NOBODY:
            raise Refused(404, CLOSED)
        return rule

    async def _identity(self, scope, rule: table.Rule) -> Identity | None:
        if rule.who == table.EVERYONE:
            return None
        try:
            identity = await self._known.who(sessions.token(scope))
        except GraftError as error:
            raise Refused(503, str(error)) from None
        if identity is None:
            raise Refused(401, SIGN_IN)
        if users.ROLES.index(identity.role) < users.ROLES.index(rule.who):
            raise Refused(403, LOW.format(rule.who, identity.role))
        return identity

    async def _refuse(self, refused: Refused, scope, receive, send) -> None:
        if refused.status == 403:
            host, page = origin.header(scope, b"host"), origin.header(scope, b"origin")
            logging.getLogger("graft").warning("refused (%r from %r): %s", host, page, refused)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})  # a policy was violated
        answer = PlainTextResponse(str(refused), refused.status)
        if refused.status == 401 and _is_page(scope):
            asked = scope["path"] + ("?" if scope["query_string"] else "")
            asked += scope["query_string"].decode("latin-1")
            answer = RedirectResponse(f"{self._base}/sign-in?next={quote(asked, safe='')}", 303)
        await answer(scope, receive, origin.with_headers(send))


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
