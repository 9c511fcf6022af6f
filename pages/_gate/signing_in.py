"""The pages for signing in and out: plain HTML without a script.

GET  /sign-in            the form; `next=` is the page to go to then
POST /sign-in            a name and a password
GET  /sign-in/provider   to the OpenID provider, if there is one (`provider`)
GET  /oauth2callback     back from it
GET  /sign-out           asks; POST ends the session
"""

import html
import logging
import secrets
from pathlib import Path
from string import Template
from urllib.parse import quote, urlsplit

import anyio.to_thread
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from engine import actions
from engine import home as homes
from engine.accounts import sessions as stored
from engine.accounts import users
from engine.accounts.store import AccountError
from engine.accounts.users import TooManyAttempts, User
from engine.errors import GraftError
from engine.serve.limits import address_of
from pages._gate import provider as openid
from pages._gate.sessions import COOKIE, Sessions, token
from pages._ui import common

AT_ONCE = 2
"""Passwords that are checked at the same time: each takes 64 MiB and a core."""
PATH, BACK = "/sign-in", "/oauth2callback"
NOBODY = (
    "There are no accounts here, and Graft answers to other hosts. Whoever runs it creates the "
    "first one with: python -m engine users add NAME --role admin"
)
_PAGE = Template(Path(__file__).with_name("sign_in.html").read_text(encoding="utf-8"))
_FIELDS = Template("""<form method="post" action="$action">
<label>Name
<input name="name" value="$name" autocomplete="username" autocapitalize="none" spellcheck="false"
 maxlength="100" required $focus_name></label>
<label>Password
<input name="password" type="password" autocomplete="current-password" required $focus_password>
</label>
<button>Sign in</button></form>""")


def local_path(text: str | None, base: str) -> str:
    """The page to go to after signing in: only a path on this server, else the first page.

    Args:
        text: as given in an address, by anybody.
        base: `server.baseUrlPath` with a slash before it, or "".
    """
    first = f"{base}/"
    if not text or not text.startswith(first) or text[len(base) :].startswith(("//", "/\\")):
        return first
    # Browsers leave out tabs and line breaks, and read a backslash as a slash.
    if any(character <= " " or character in "\\\x7f" for character in text):
        return first
    return text


class SigningIn:
    """The routes.

    Args:
        base: `server.baseUrlPath` with a slash before it, or "".
        known: who is signed in, for the gate.
        provider: an OpenID provider, or None.
    """

    def __init__(self, base: str, known: Sessions, provider: openid.Provider | None):
        self._base, self._known, self._provider = base, known, provider
        self._threads = anyio.CapacityLimiter(AT_ONCE)

    def routes(self) -> list[Route]:
        """The routes of the app."""
        base = self._base
        return [
            Route(f"{base}{PATH}", self.show, methods=["GET"]),
            Route(f"{base}{PATH}", self.submit, methods=["POST"]),
            Route(f"{base}{PATH}/provider", self.leave, methods=["GET"]),
            Route(f"{base}{BACK}", self.back, methods=["GET"]),
            Route(f"{base}/sign-out", self.ask, methods=["GET"]),
            Route(f"{base}/sign-out", self.end, methods=["POST"]),
        ]

    # -- with a password ---------------------------------------------------------------------------

    async def show(self, request) -> Response:
        """The form; who is signed in already, or needs not, goes on."""
        wanted = local_path(request.query_params.get("next"), self._base)
        try:
            if await self._known.who(token(request.scope)):
                return RedirectResponse(wanted, 303)
        except GraftError as error:
            return self._form(wanted, error=str(error), status=503)
        return self._form(wanted)

    async def submit(self, request) -> Response:
        """Checks a name and a password."""
        wanted = local_path(request.query_params.get("next"), self._base)
        form = await request.form()
        name, password = str(form.get("name", "")), str(form.get("password", ""))
        address = _address(request)

        def check() -> str:
            home = homes.folder()
            if not users.needed(home):
                raise AccountError(NOBODY)
            user = users.sign_in(home, name, password, address_of(request.scope))
            return actions.begin_session(home, user.name, address, user.proof)

        try:
            secret = await anyio.to_thread.run_sync(check, limiter=self._threads)
        except TooManyAttempts as error:
            logging.getLogger("graft").warning("too many sign-ins failed from %s", address)
            answer = self._form(wanted, name, str(error), 429)
            answer.headers["Retry-After"] = str(error.seconds)
            return answer
        except AccountError as error:
            logging.getLogger("graft").warning("a sign-in failed from %s", address)
            return self._form(wanted, name, str(error), 401)
        except GraftError as error:
            return self._form(wanted, name, str(error), 503)
        return self._begun(request, secret, wanted)

    def _begun(self, request, secret: str, wanted: str) -> Response:
        self._known.forget(secret)
        answer = RedirectResponse(wanted, 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(
            COOKIE, secret, max_age=stored.MOST, path=f"{self._base}/", httponly=True,
            samesite="lax", secure=secure,
        )  # fmt: skip
        return answer

    # -- at an OpenID provider ---------------------------------------------------------------------

    async def leave(self, request) -> Response:
        """To the provider."""
        wanted = local_path(request.query_params.get("next"), self._base)
        if not self._provider:
            return self._form(wanted, error="there is no OpenID provider here", status=404)
        try:
            return await self._provider.leave(request, wanted)
        except AccountError as error:
            return self._form(wanted, error=str(error), status=502)

    async def back(self, request) -> Response:
        """Back from it: the address that it has verified must belong to a user."""
        first = f"{self._base}/"
        if not self._provider:
            return self._form(first, error="there is no OpenID provider here", status=404)

        def begin(email: str) -> str:
            home = homes.folder()
            user: User | None = users.by_email(home, email)
            if user is None:
                raise AccountError(
                    f"nobody here has the address {email}; whoever runs Graft can add you with: "
                    "python -m engine users add NAME --email ADDRESS"
                )
            return actions.begin_session(home, user.name, _address(request), user.proof)

        try:
            email, wanted = await self._provider.back(request)
            secret = await anyio.to_thread.run_sync(begin, email, limiter=self._threads)
        except GraftError as error:
            return self._form(first, error=str(error), status=401)
        return self._begun(request, secret, local_path(wanted, self._base))

    # -- out ---------------------------------------------------------------------------------------

    async def ask(self, request) -> Response:
        """A page with the button that signs out."""
        action = f"{self._base}/sign-out"
        body = f'<form method="post" action="{action}"><button>Sign out</button></form>'
        body += f'<a class="button" href="{self._base}/">Stay</a>'
        return _page("Sign out?", body, 200)

    async def end(self, request) -> Response:
        """Ends the session of this browser."""
        secret = token(request.scope)
        home = homes.folder()
        try:
            if secret and users.needed(home):
                await anyio.to_thread.run_sync(stored.end, home, secret)
        except GraftError as error:  # it still works, and the browser keeps it to try again
            body = f'<p class="wrong" role="alert">{html.escape(common.sentence(str(error)))}</p>'
            return _page("You are still signed in", body, 503)
        self._known.forget(secret)
        answer = RedirectResponse(f"{self._base}{PATH}", 303)
        answer.delete_cookie(COOKIE, path=f"{self._base}/")
        return answer

    # -- the page ----------------------------------------------------------------------------------

    def _form(self, wanted: str, name: str = "", error: str = "", status: int = 200) -> Response:
        query = "" if wanted == f"{self._base}/" else f"?next={quote(wanted, safe='')}"
        body = _FIELDS.substitute(
            action=html.escape(f"{self._base}{PATH}{query}"),
            name=html.escape(name),
            focus_name="" if name else "autofocus",
            focus_password="autofocus" if name else "",
        )
        if error:
            body = f'<p class="wrong" role="alert">{html.escape(common.sentence(error))}</p>{body}'
        if self._provider:
            address = html.escape(f"{self._base}{PATH}/provider{query}")
            label = html.escape(f"Sign in at {urlsplit(self._provider.metadata_url).hostname}")
            body += f'<a class="button" href="{address}">{label}</a>'
        return _page("Sign in", body, status)


def _address(request) -> str:
    return request.client.host if request.client else ""


def _page(title: str, body: str, status: int) -> Response:
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
    text = _PAGE.substitute(title=title, nonce=nonce, logo=common.LOGO, body=body)
    kept = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
    return HTMLResponse(text, status, kept)
