"""Who may reach which route of the running app: the table of docs/security.md, tried."""

import json
import os
import subprocess
import sys

import pytest
from starlette.requests import Request

from engine import home as homes
from engine.accounts import users
from pages._gate import gate, origin, sockets, table, uploads
from tests.support import ROOT, loop
from tests.support.browser import server
from tests.support.gate import PASSWORD, App, cookie, people, sample

REFUSALS = {gate.SIGN_IN, gate.CLOSED, origin.FOREIGN_HOST, origin.FOREIGN_ORIGIN}
LISTED = """
import json
from app import app
routes = app._build_starlette_app().routes
print(json.dumps([[type(each).__name__, each.path, sorted(getattr(each, "methods", 0) or [])]
                  for each in routes]))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    found = homes.home(tmp_path_factory.mktemp("gate") / "home")
    people(found)
    return found


@pytest.fixture(scope="module")
def app(home, tmp_path_factory):
    with server(home, tmp_path_factory.mktemp("log") / "log") as (address, _):
        yield App(address)


@pytest.fixture(scope="module")
def routes(home):
    """[(kind, path, methods)] of the app object: Streamlit's own routes, and Graft's."""
    ran = subprocess.run(
        [sys.executable, "-c", LISTED], cwd=ROOT, capture_output=True, text=True, check=True,
        env=os.environ | {"GRAFT_HOME": str(home), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return json.loads(ran.stdout)


@pytest.fixture(scope="module")
def tries(routes):
    """[(method, path, rule)] of all of them; a mount answers below its path."""
    found = []
    for kind, path, methods in routes:
        below = f"{path}/a" if kind == "Mount" else sample(path)
        allowed = {"Mount": ["GET", "POST"], "WebSocketRoute": ["WEBSOCKET"]}.get(kind, methods)
        found += [(method, below, table.rule(below)) for method in allowed]
    return found


def tried(app, method, path, who=None, **headers):
    """Status and text of a request, or of the handshake of a websocket."""
    if method == "WEBSOCKET":
        status, _, text = app.handshake(who, **headers)
    else:
        status, _, text = app.ask(method, path, who, **headers)
    return status, text


def refused(app, home, method, path, name):
    """Whether the gate refuses somebody a route."""
    key = name and cookie(home, name)
    if method == "WEBSOCKET":
        return app.sent_away(key)
    return tried(app, method, path, key)[1] in REFUSALS


def test_each_route_of_the_app_is_in_the_table(routes):
    kinds = {kind for kind, _, _ in routes}
    assert kinds == {"Route", "Mount", "WebSocketRoute"}
    for kind, path, _ in routes:
        if (kind, path) != ("Mount", ""):  # the pages' own files
            below = f"{path}/a" if kind == "Mount" else sample(path)
            assert table.rule(below) is not table.REST, f"{path} is not in pages/_gate/table.py"


def test_the_table_is_that_of_the_documentation():
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    shown = text.split("<!-- routes -->")[1].split("<!-- end of routes -->")[0]
    assert shown.strip() == table.markdown()


@pytest.mark.parametrize("name", [None, "vera", "tom", "ada"])
def test_each_role_reaches_what_the_table_says(app, home, tries, name):
    role = name and users.get(home, name).role
    for method, path, rule in tries:
        if method == "HEAD":  # has no text; as GET
            continue
        wanted = not table.allows(rule, role)
        assert refused(app, home, method, path, name) is wanted, (method, path, role)


def test_a_foreign_name_reaches_nothing(app, home, tries):
    for method, path, _ in tries:
        foreign = {"Host": f"evil.example:{app.port}", "Origin": f"http://evil.example:{app.port}"}
        status, text = tried(app, method, path, cookie(home, "ada"), **foreign)
        assert status == 403 and text in ("", origin.FOREIGN_HOST), (method, path)


@pytest.mark.parametrize("page", ["http://evil.example", "http://localhost:3000", "null", None])
def test_a_foreign_page_changes_nothing_and_opens_nothing(app, home, tries, page):
    for method, path, _ in tries:
        if method in origin.SAFE:
            continue
        status, text = tried(app, method, path, cookie(home, "ada"), Origin=page)
        assert status == 403 and text in ("", origin.FOREIGN_ORIGIN), (method, path)


def test_a_page_of_others_takes_no_upload(app, home):
    vera, tom = cookie(home, "vera"), cookie(home, "tom")
    with app.page(vera) as page:
        assert page.upload(b"1")[0] == 204
        for other in (tom, cookie(home, "ada")):
            status, _, text = page.upload(b"2", cookie=other)
            assert (status, text) == (403, uploads.FOREIGN)
        assert page.upload(b"3", session="no-such-session")[::2] == (403, uploads.FOREIGN)
        assert page.upload(b"4", cookie=cookie(home, "vera"))[0] == 204  # another of her browsers
    assert app.ask("DELETE", f"/_stcore/upload_file/{page.session}/a-file", tom)[0] == 403


def test_a_browser_cannot_say_who_it_is(app, home):
    forged = {"x-graft-user": "ada", "X-Graft-User": "ada", "X-Graft-Role": "admin"}
    assert app.ask("GET", "/runs", **forged)[0] == 401
    with app.page(cookie(home, "vera"), **forged) as page:
        assert page.upload(b"1")[0] == 204  # it is vera's page
        assert page.upload(b"2", cookie=cookie(home, "ada"))[0] == 403


@pytest.mark.parametrize("end", ["signed out", "removed", "new password"])
def test_an_open_page_ends_with_its_session(app, home, end):
    name = f"eve-{end.replace(' ', '-')}"
    users.add(home, name, "viewer", PASSWORD)
    key = cookie(home, name)
    with app.page(key) as page:
        if end == "signed out":
            assert app.ask("POST", "/sign-out", key)[0] == 303
        elif end == "new password":
            users.set_password(home, name, "another horse, another battery")
        else:
            users.remove(home, name)
        assert page.closed() == sockets.SIGNED_OUT
    assert app.sent_away(key)


def test_pages_lead_to_the_sign_in_page_and_parts_of_them_do_not(app):
    status, headers, _ = app.ask("GET", "/runs?run=a&set=b", Accept="text/html,*/*")
    assert (status, headers["Location"]) == (303, "/sign-in?next=%2Fruns%3Frun%3Da%26set%3Db")
    status, _, text = app.ask("GET", "/thumbs/a/b", Accept="*/*")
    assert (status, text) == (401, gate.SIGN_IN)


@pytest.mark.parametrize("path", ["/sign-in", "/s/a", "/wall/a/b", "/oauth2callback"])
def test_what_everyone_reaches_has_no_websocket(path):
    sent, headers = [], [(b"host", b"localhost"), (b"origin", b"http://localhost")]

    async def send(message):
        sent.append(message)

    # Neither the app nor the accounts are asked.
    closed = gate.Gate(None, ["localhost"], "", None)
    scope = {"type": "websocket", "path": path, "headers": headers}
    loop.run(closed(scope, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_who_leaves_while_sending_fills_no_log():
    async def app(scope, receive, send):
        await Request(scope, receive).form()

    async def left():
        return {"type": "http.disconnect"}

    headers = [(b"host", b"localhost"), (b"origin", b"http://localhost")]
    headers.append((b"content-type", b"application/x-www-form-urlencoded"))
    scope = {"type": "http", "method": "POST", "path": "/sign-in", "headers": headers}
    loop.run(gate.Gate(app, ["localhost"], "", None)(scope, left, None))
