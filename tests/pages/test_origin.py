"""Who may talk to the server: requests as browsers send them for its own pages and for others."""

import http.client
import re
import socket
import subprocess
import sys

import pytest

from engine import home as homes
from engine.accounts import sessions, users
from tests.support import ROOT
from tests.support.browser import server

OWN = ("127.0.0.1", "localhost", "[::1]")
FOREIGN = ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "203.0.113.7", "")
PATHS = (
    "/",
    "/runs",
    "/_stcore/health",
    "/_stcore/host-config",
    "/vendor/plotly.min.js",
    "/thumbs/sample/" + 64 * "0",
    "/answers/batch/0",
    "/marks/run/image",
)


@pytest.fixture(scope="module")
def outside():
    """A listening socket in the place of the internet: whatever calls out arrives there."""
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.MonkeyPatch.context() as patch:
        listening.setblocking(False)
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            patch.setenv(name, f"http://127.0.0.1:{listening.getsockname()[1]}")
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, "127.0.0.1,localhost")
        yield listening


@pytest.fixture(scope="module")
def port(outside, tmp_path_factory):
    """The port of a server as it is started by default."""
    place = tmp_path_factory.mktemp("origin")
    with server(homes.home(place / "home"), place / "log") as (address, _):
        yield int(address.rsplit(":", 1)[1])


def ask(port, path, host, method="GET", **headers):
    """Status and text of a request with exactly these headers; Host is left out if it is None."""
    return answered(port, path, host, method, **headers)[:2]


def answered(port, path, host, method="GET", **headers):
    """`ask`, and the headers of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in ({"Host": host} | headers).items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    # A websocket that is open sends no end.
    text = "" if answer.status == 101 else answer.read().decode(errors="replace")
    connection.close()
    return answer.status, text, answer.headers


def open_websocket(port, host, origin, cookie=None) -> int:
    """Status of the handshake of Streamlit's websocket: 101 if it is open."""
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": "streamlit",
        "Origin": origin,
        "Cookie": cookie,
    }
    return ask(port, "/_stcore/stream", host, **headers)[0]


@pytest.mark.parametrize("host", OWN)
def test_own_pages_are_answered_and_open_a_websocket(port, host):
    own = f"{host}:{port}"
    assert ask(port, "/_stcore/health", own) == (200, "ok")
    assert open_websocket(port, own, f"http://{own}") == 101
    # Behind a proxy that has the certificate.
    assert open_websocket(port, host, f"https://{host}") == 101


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "http://localhost:3000", "http://127.0.0.1", "null", "", None],
)
def test_no_websocket_for_another_website_and_nobody_outside_is_asked(port, outside, origin):
    assert open_websocket(port, f"127.0.0.1:{port}", origin) == 403
    with pytest.raises(BlockingIOError):  # nothing has arrived
        outside.accept()


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:3000", "null", None])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_another_website_changes_nothing(port, method, origin):
    path, own = "/_stcore/upload_file/session/file", f"127.0.0.1:{port}"
    status, text = ask(port, path, own, method, Origin=origin)
    assert status == 403 and "page of its own address" in text
    # Whatever Streamlit says to it, the gate lets a page of its own through.
    assert "own address" not in ask(port, path, own, method, Origin=f"http://{own}")[1]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("host", ["127.0.0.1", "evil.example"])
def test_every_answer_says_what_a_page_may_do(port, path, host):
    headers = answered(port, path, f"{host}:{port}")[2]
    assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "SAMEORIGIN"
    assert headers["Referrer-Policy"] == "same-origin"


@pytest.mark.parametrize("host", FOREIGN)
def test_a_name_that_leads_here_opens_nothing(port, outside, host):
    foreign = host and f"{host}:{port}"
    assert open_websocket(port, foreign, f"http://{foreign}") == 403
    for path in PATHS:
        status, text = ask(port, path, foreign)
        assert status == 403, path
        assert "--server.allowedHosts" in text, path
    with pytest.raises(BlockingIOError):
        outside.accept()


def test_a_request_without_a_name_is_refused(port):
    assert ask(port, "/_stcore/health", None)[0] in (400, 403)


def test_names_that_the_operator_allows_are_answered(tmp_path):
    options = (
        "--server.allowedHosts=*.lab.example",
        "--server.allowedHosts=other.example",
        "--browser.serverAddress=https://Graft.example/below",
    )
    home = homes.home(tmp_path / "home")
    users.add(home, "ada", "viewer", "correct horse battery staple")
    cookie = f"graft_session={sessions.begin(home, 'ada')}"
    with server(home, tmp_path / "log", *options) as (address, _):
        port = int(address.rsplit(":", 1)[1])
        for host in ("gpu.lab.example", "other.example", "graft.example", "localhost"):
            own = f"{host}:{port}"
            assert ask(port, "/_stcore/health", own)[0] == 200, host
            assert open_websocket(port, own, f"http://{own}", cookie) == 101, host
        for host in ("lab.example", "evil.example"):
            assert ask(port, "/_stcore/health", f"{host}:{port}")[0] == 403, host


def test_a_server_without_its_settings_answers_under_names_of_this_host_only(tmp_path):
    """Started from elsewhere, with another configuration: `allowed_hosts` says the same."""
    script = "from pages._gate import origin; print(origin.allowed_hosts())"
    environment = {"STREAMLIT_SERVER_ALLOWED_HOSTS": "", "PYTHONPATH": str(ROOT), "HOME": "/"}
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.findall("'(.*?)'", ran.stdout) == ["localhost", "127.0.0.1", "::1"]
