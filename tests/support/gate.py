"""Requests to a running app as other programs than its own pages send them, and people with
accounts."""

import contextlib
import http.client
import re
import secrets
from urllib.parse import urlencode

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import ConnectionClosedError
from websockets.sync import client

from engine.accounts import sessions, users

PASSWORD = "correct horse battery staple"
PEOPLE = {"vera": "viewer", "tom": "trainer", "ada": "admin"}


def people(home) -> None:
    """One user of each role."""
    for name, role in PEOPLE.items():
        users.add(home, name, role, PASSWORD)


def cookie(home, name) -> str:
    """The cookie of a session that begins now."""
    return f"graft_session={sessions.begin(home, name)}"


class App:
    """A running app.

    Args:
        address: of `tests.support.browser.server`.
    """

    def __init__(self, address):
        self.port = int(address.rsplit(":", 1)[1])
        self.host = f"127.0.0.1:{self.port}"
        self.origin = f"http://{self.host}"

    def connection(self):
        """A connection, closed at the end of a `with`."""
        made = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        return contextlib.closing(made)

    def ask(self, method, path, cookie=None, body=None, **headers):
        """(status, headers, text) of a request with these headers, and Host and Origin of its own
        pages unless they are given."""
        sent = {"Host": self.host, "Origin": self.origin, "Cookie": cookie} | headers
        with self.connection() as connection:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name.replace("_", "-"), value)
            connection.endheaders(body)
            answer = connection.getresponse()
            # A websocket that is open sends no end.
            text = "" if answer.status == 101 else answer.read().decode(errors="replace")
            return answer.status, answer.headers, text

    def handshake(self, cookie=None, **headers):
        """(status, headers, text) of an attempt to open Streamlit's websocket."""
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol": "streamlit",
        }
        return self.ask("GET", "/_stcore/stream", cookie, **upgrade | headers)

    def sent_away(self, cookie=None) -> bool:
        """Whether a page that connects is only asked to load again, to sign in."""
        message = BackMsg()
        message.rerun_script.page_name = "runs"
        with self._socket(cookie) as socket:
            with contextlib.suppress(ConnectionClosedError):  # already
                socket.send(message.SerializeToString())
            first = ForwardMsg.FromString(socket.recv(60))
            if first.WhichOneof("type") != "auth_redirect":
                return False
            with pytest.raises(ConnectionClosedError) as closed:
                socket.recv(60)
        return first.auth_redirect.url == "" and closed.value.rcvd.code == 4401

    @contextlib.contextmanager
    def page(self, cookie=None, name="runs", **headers):
        """An open page; gives a Page."""
        with self._socket(cookie, **headers) as socket:
            yield Page(self, socket, cookie, name)

    def _socket(self, cookie=None, **headers):
        headers |= {"Cookie": cookie} if cookie else {}
        return client.connect(
            f"ws://{self.host}/_stcore/stream", origin=self.origin, subprotocols=["streamlit"],
            additional_headers=headers, max_size=None, max_queue=None,
        )  # fmt: skip


class Page:
    """A page that is open over its websocket.

    Attributes:
        socket: the websocket.
        session: Streamlit's id of it.
    """

    def __init__(self, app, socket, cookie, name):
        self._app, self.socket, self._cookie = app, socket, cookie
        message = BackMsg()
        message.rerun_script.page_name = name
        socket.send(message.SerializeToString())
        first = next(each for each in self._messages() if each.WhichOneof("type") == "new_session")
        self.session = first.new_session.initialize.session_id

    def _messages(self):
        for data in self.socket:
            yield ForwardMsg.FromString(data)

    def wait_for(self, find):
        """What `find` makes of the first message of which it makes something."""
        return next(found for each in self._messages() if (found := find(each)))

    def closed(self) -> int:
        """The code with which the server closes the page, waiting for it."""
        try:
            for _ in self._messages():
                pass
        except ConnectionClosedError as error:
            return error.rcvd.code
        raise AssertionError("the page was closed as if all were well")

    def upload(self, data, file="a-file", session=None, cookie=None):
        """(status, headers, text) of an upload, as the page's frontend sends it."""
        return self._app.ask(
            "PUT", f"/_stcore/upload_file/{session or self.session}/{file}",
            body=form(data), **upload_headers(cookie or self._cookie),
        )  # fmt: skip

    def remove(self, file):
        """(status, headers, text) of removing an upload."""
        path = f"/_stcore/upload_file/{self.session}/{file}"
        return self._app.ask("DELETE", path, **upload_headers(self._cookie))


def form(data) -> bytes:
    """A file as multipart form data, with the boundary of `upload_headers`."""
    head = b'--border\r\nContent-Disposition: form-data; name="f.jpg"; filename="f.jpg"\r\n\r\n'
    return head + data + b"\r\n--border--\r\n"


def upload_headers(cookie=None) -> dict[str, str]:
    """Streamlit takes any equal pair of tokens in a header and a cookie."""
    token = secrets.token_hex(16)
    kept = [cookie] if cookie else []
    return {
        "Content-Type": "multipart/form-data; boundary=border",
        "X-Xsrftoken": token,
        "cookie": "; ".join([*kept, f"_streamlit_xsrf={token}"]),
    }


def sign_in(app, name, password, wanted="", **headers):
    """(status, headers, text) of the form, sent."""
    body = urlencode({"name": name, "password": password}).encode()
    headers |= {"Content-Type": "application/x-www-form-urlencoded"}
    return app.ask("POST", f"/sign-in{wanted}", body=body, **headers)


def sample(path) -> str:
    """An address of a route, of its path with {parameters}."""
    return re.sub(r"\{[^}]*\}", "a", path) or "/"
