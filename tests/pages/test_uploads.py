"""How much may be uploaded, and how many requests one client may have under way."""

import asyncio
import contextlib
import os
import select

import pytest
from starlette.exceptions import HTTPException

from engine import home as homes
from engine.host import limits, settings
from pages._gate import bodies, clients, uploads
from tests.support import loop
from tests.support.browser import server
from tests.support.gate import App, cookie, form, people, upload_headers
from tests.support.pages import as_read

MB = 10**6


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    found = homes.home(tmp_path_factory.mktemp("uploads") / "home")
    people(found)
    settings.change(found, upload_session_mb=4, upload_user_mb=6, upload_total_mb=9)
    return found


@pytest.fixture(scope="module")
def app(home, tmp_path_factory):
    with server(home, tmp_path_factory.mktemp("log") / "log") as (address, _):
        yield App(address)


def uploaded(page, count, size=MB):
    """The statuses of uploads one after another."""
    return [page.upload(os.urandom(size), f"file-{i}")[0] for i in range(count)]


def test_one_page_holds_so_much_and_frees_what_it_removes(app, home):
    with app.page(cookie(home, "vera")) as page:
        assert uploaded(page, 10) == [204, 204, 204, *7 * [413]]
        _, _, text = page.upload(bytes(MB), "one-more")
        assert text.startswith("one page may hold 4.0 MB of uploads; 3.0 MB of them are in use")
        assert page.remove("file-0")[0] == 204
        assert page.upload(bytes(MB), "one-more")[0] == 204
        assert page.upload(bytes(2 * MB), "file-1")[0] == 413  # no way around it by replacing
        free(page, "one-more", "file-1", "file-2")


def free(page, *files):
    """Removes what a test has uploaded."""
    for file in files:
        page.remove(file)


def test_one_user_holds_so_much_in_all_pages_and_all_users_together_too(app, home):
    with contextlib.ExitStack() as stack:
        pages = [stack.enter_context(app.page(cookie(home, "tom"))) for _ in range(3)]
        assert [uploaded(page, 3) for page in pages[:2]] == [3 * [204], [204, 204, 413]]
        text = pages[2].upload(bytes(MB))[2]
        assert text.startswith("one user may hold 6.0 MB of uploads; 5.0 MB of them are in use")
        others = [stack.enter_context(app.page(cookie(home, "ada"))) for _ in range(2)]
        assert [uploaded(page, 2) for page in others] == [2 * [204], [204, 413]]
        text = others[1].upload(bytes(MB), "more")[2]
        assert text.startswith("all pages together may hold 9.0 MB of uploads; 8.0 MB of them")
        for page in (*pages, *others):
            free(page, "file-0", "file-1", "file-2")


def test_a_file_of_unknown_size_is_stopped_while_it_arrives(app, home):
    with app.page(cookie(home, "vera")) as page, app.connection() as connection:
        path = f"/_stcore/upload_file/{page.session}/file"
        headers = {"Origin": app.origin} | upload_headers(cookie(home, "vera"))
        connection.putrequest("PUT", path)
        for name, value in (headers | {"Transfer-Encoding": "chunked"}).items():
            connection.putheader(name, value)
        connection.endheaders()
        sent = _send_until_stopped(connection, form(bytes(40 * MB)))
        assert sent < 40 * MB
        assert connection.getresponse().status == 413


def _send_until_stopped(connection, data):
    """Sends chunks until the server answers, which it does before the end; returns the bytes."""
    sent = 0
    for start in range(0, len(data), 250_000):
        piece = data[start : start + 250_000]
        connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        sent += len(piece)
        if sent > 4 * MB and select.select([connection.sock], [], [], 60)[0]:
            break
    connection.send(b"0\r\n\r\n")
    return sent


def test_a_page_says_why_an_upload_was_refused(app, home):
    with app.page(cookie(home, "vera")) as page:
        assert page.upload(bytes(5 * MB))[0] == 413
        toast = page.wait_for(lambda message: message.delta.new_element.toast.body)
        assert as_read(toast).startswith("One page may hold 4.0 MB of uploads")


def test_at_most_a_quarter_of_the_memory_is_used_whatever_the_settings_say(home, monkeypatch):
    monkeypatch.setenv("GRAFT_HOME", str(home))
    monkeypatch.setattr(limits, "total_memory", lambda: 20 * MB)
    assert uploads._allowed() == {"session": 4 * MB, "user": 5 * MB, "total": 5 * MB}


def test_a_refusal_waits_until_the_browser_can_read_it():
    """A browser reads an answer only when it has sent all; what it sends is thrown away."""
    arriving = [{"type": "http.request", "body": bytes(10), "more_body": i < 3} for i in range(4)]
    sent = []

    async def run():
        async def receive():
            return arriving.pop(0)

        async def send(message):
            sent.append(message)

        body = bodies.Body(receive, send, lambda count: "too much" if count > 15 else None)
        await body.receive()
        with pytest.raises(HTTPException, match="too much"):
            await body.receive()
        await body.send({"type": "http.response.start", "status": 413, "headers": []})
        await body.send({"type": "http.response.body", "body": b"too much"})

    loop.run(run())
    assert not arriving
    assert sent[0]["headers"] == [(b"connection", b"close")]
    assert [message.get("more_body") for message in sent[1:]] == [True, None]


def test_a_body_must_arrive_in_time():
    sent = []

    async def run():
        async def send(message):
            sent.append(message)

        pieces = asyncio.Queue()
        pieces.put_nowait({"type": "http.request", "body": b"", "more_body": True})
        body = bodies.Body(pieces.get, send, lambda count: None, seconds=0)
        assert (await body.receive())["more_body"]
        with pytest.raises(HTTPException, match="too slowly") as late:
            await body.receive()
        assert late.value.status_code == 408
        await body.send({"type": "http.response.start", "status": 408, "headers": []})
        await body.send({"type": "http.response.body", "body": b"late"})
        # Only the body has so little time: what waits for the browser to leave may wait.
        pieces.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        pieces.put_nowait({"type": "http.disconnect"})
        arrived = bodies.Body(pieces.get, send, lambda count: None, seconds=0)
        assert not (await arrived.receive())["more_body"]
        assert (await arrived.receive())["type"] == "http.disconnect"

    loop.run(run())
    assert sent[0]["headers"] == [(b"connection", b"close")]
    assert sent[1:] == [{"type": "http.response.body", "body": b"late"}]


def test_one_client_cannot_take_the_places_of_others():
    async def run():
        known, done, done_by_others = clients.Clients(), asyncio.Event(), []

        async def request(client):
            async with known.request(client):
                if client == "greedy":
                    await done.wait()
                else:
                    done_by_others.append(client)

        most = clients.AT_ONCE + clients.WAITING
        greedy = [asyncio.create_task(request("greedy")) for _ in range(most)]
        await asyncio.sleep(0)  # they begin
        with pytest.raises(clients.TooMany):
            await request("greedy")
        await request("another")
        done.set()
        await asyncio.gather(*greedy)
        await request("greedy")
        assert done_by_others == ["another"]
        assert not known._requests and not known._places

    loop.run(run())
