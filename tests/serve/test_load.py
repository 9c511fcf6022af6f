"""Many clients at once, slow ones among them, and the end of the endpoint."""

import asyncio
import contextlib
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.exceptions import HTTPException

from benchmarks.serving import burst, post
from engine.serve import limits, server
from engine.serve.limits import Bounds
from tests.support import loop
from tests.support.pictures import encode, picture
from tests.support.serve import Fake, call, endpoint, form, served

BODY = form(("a.png", encode(picture())))
POST = post(*BODY)


@pytest.fixture
def fake(tmp_path):
    """A classifier that answers even if a test fails."""
    made = Fake(tmp_path)
    yield made
    made.may.set()


@contextlib.contextmanager
def sockets(port, number, sent):
    """Connections that have sent some bytes each."""
    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            for _ in range(number)
        ]
        for each in made:
            each.sendall(sent)
        yield made


def until(condition):
    """Waits for an event that nothing announces; a minute without it is a failure."""
    for _ in range(6_000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def read(connection) -> str:
    """All that the server sends until it closes the connection."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts).decode()


# -- many ------------------------------------------------------------------------------------------


def test_of_a_thousand_requests_at_once_none_is_lost(fake):
    with served(fake) as (port, _):
        answers, health = loop.run(burst(port, POST, 1_000))
    assert len(answers) == fake.asked == 1_000
    assert {status for each in answers for status in each.statuses} == {200, 429}
    assert all(each.statuses[-1] == 200 and b'"red"' in each.body for each in answers)
    assert health and {status for each in health for status in each.statuses} == {200}


def test_slow_clients_keep_no_one_out(fake):
    """As many as used to make the endpoint refuse everybody, in each stage of a request."""
    with served(fake, Bounds(rate=0)) as (port, _), contextlib.ExitStack() as stack:
        for sent in (b"", b"POST /classify HTTP/1.1\r\nHost: local", POST[:-10]):
            stack.enter_context(sockets(port, 300, sent))
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: call(port, "POST", "/classify", *BODY)[0], range(20)))
        assert found == [200] * 20 and call(port, "GET", "/health")[0] == 200


def test_a_connection_without_a_request_makes_room_for_a_new_one(fake, monkeypatch):
    monkeypatch.setattr(server.Patient, "most", 20)
    with served(fake) as (port, made):
        fake.may.clear()
        with sockets(port, 2, POST) as asking, contextlib.ExitStack() as stack:
            until(lambda: fake.asked == 2)
            slow = stack.enter_context(sockets(port, 30, POST[:-10]))
            assert call(port, "GET", "/health")[0] == 200
            assert read(slow[0]) == ""  # the oldest
            until(lambda: len(made.server_state.connections) <= 20)
            fake.may.set()
            slow[-1].sendall(POST[-10:])
            for each in (*asking, slow[-1]):  # requests under way are answered
                assert read(each).startswith("HTTP/1.1 200")


# -- slow ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent, said",
    [
        (b"", ""),
        (b"POST /classify HTTP/1.1\r\n", "HTTP/1.1 408"),
        (POST[:-10], "HTTP/1.1 408"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /he", "HTTP/1.1 200"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 200"),
    ],
)
def test_a_request_must_arrive_in_time(sent, said, fake, monkeypatch):
    """Nothing, half a header, half a body, half a header after an answer, a body nobody reads."""
    monkeypatch.setattr(server, "SECONDS", 0.2)
    monkeypatch.setattr(server, "BYTES", 1e9)
    with served(fake) as (port, _), sockets(port, 1, sent) as [connection]:
        found = read(connection)  # it ends because the server closes the connection
        assert found.startswith(said) and fake.asked == 0
        assert "408" not in said or "the request was not complete after" in found


def test_a_large_body_gets_more_time(fake, monkeypatch):
    monkeypatch.setattr(server, "SECONDS", 0.2)
    monkeypatch.setattr(server, "BYTES", len(POST) / 1e6)  # a million seconds for the body
    looked, late = [], server.Patient._late
    monkeypatch.setattr(server.Patient, "_late", lambda self: looked.append(late(self)))
    with served(fake) as (port, _), sockets(port, 1, POST[:-10]) as [connection]:
        until(lambda: looked)  # the first 0.2 s are over
        connection.sendall(POST[-10:])
        assert read(connection).startswith("HTTP/1.1 200")


def test_an_answer_that_nobody_reads_ends(fake, monkeypatch):
    monkeypatch.setattr(server, "READ_SECONDS", 0.2)
    many = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1_000
    with served(fake) as (port, made), sockets(port, 1, many):
        until(lambda: made.server_state.connections)
        until(lambda: not made.server_state.connections)
        assert call(port, "GET", "/health")[0] == 200


# -- the queue -------------------------------------------------------------------------------------


def test_the_queue_is_bounded_and_fair(monkeypatch):
    monkeypatch.setattr(limits, "WAITING", 6)
    monkeypatch.setattr(limits, "EACH", 4)
    now = [0.0]

    async def play():
        queue, done, order = limits.Queue(lambda: now[0]), asyncio.Event(), []

        async def one(client):
            async with queue.turn(client):
                order.append(client)
                await done.wait()

        def refused(client):
            with pytest.raises(HTTPException) as error:
                queue.check(client)
            assert error.value.status_code == 429
            return error.value.detail, int(error.value.headers["Retry-After"])

        waiting = [asyncio.create_task(one("a")) for _ in range(4)]
        await asyncio.sleep(0)
        assert len(order) == limits.AT_ONCE
        assert "4 of your requests are waiting" in refused("a")[0]
        waiting += [asyncio.create_task(one("b")) for _ in range(2)]
        await asyncio.sleep(0)
        # Each is asked to come back a little later than the one before, at most after LATER.
        asked = [refused(client)[1] for client in ("c", "d") * 3_000]
        assert asked == sorted(asked) and asked[0] == 1 and asked[-1] == limits.LATER
        assert "too many requests are waiting" in refused("c")[0]
        done.set()
        await asyncio.gather(*waiting)
        assert order == ["a"] * 4 + ["b"] * 2
        queue.check("a")

    loop.run(play())


def test_a_client_has_half_of_the_places(fake, monkeypatch):
    monkeypatch.setattr(limits, "EACH", 2)
    with served(fake) as (port, _):
        fake.may.clear()
        with sockets(port, 2, POST) as asking:
            until(lambda: fake.asked == 2)
            status, headers, found = call(port, "POST", "/classify", *BODY)
            assert status == 429 and headers["Retry-After"] == "1"
            assert "2 of your requests are waiting" in found["error"]
            with ThreadPoolExecutor() as pool:
                other = pool.submit(call, port, "POST", "/classify", *BODY, source="127.0.0.2")
                fake.may.set()
                assert other.result()[0] == 200
            assert [read(each)[:12] for each in asking] == ["HTTP/1.1 200"] * 2


def test_what_arrives_at_once_has_a_limit(fake, monkeypatch):
    monkeypatch.setattr(limits, "HELD", 0)
    bounds = Bounds(request_bytes=100_000, rate=0)  # 400,000 in all, half from one client
    large = post(*form(("a.png", bytes(90_000))))
    with served(fake, bounds) as (port, made):
        with sockets(port, 2, large[:-10]) as slow:
            until(
                lambda: (
                    sum(
                        len(each.cycle.body) == 0 and each._bytes >= len(large) - 10
                        for each in made.server_state.connections
                        if each.cycle
                    )
                    == 2
                )
            )
            status, headers, found = call(
                port, "POST", "/classify", *form(("a.png", bytes(90_000)))
            )
            assert status == 429 and headers["Retry-After"] == "1" and "at once" in found["error"]
            other = call(port, "POST", "/classify", *BODY, source="127.0.0.2")
            assert other[0] == 200
            slow[0].sendall(large[-10:])
            assert read(slow[0]).startswith("HTTP/1.1 200")
        until(lambda: not made.server_state.tasks)
        again = form(*[(f"{i}.png", bytes(45_000)) for i in range(2)])
        assert call(port, "POST", "/classify", *again)[0] == 200


def test_an_answer_that_nobody_waits_for_is_not_computed(fake):
    with served(fake) as (port, made):
        fake.may.clear()
        with sockets(port, 2, POST) as asking:
            until(lambda: fake.asked == 2)
            with sockets(port, 3, POST):
                until(lambda: len(made.server_state.tasks) == 5)
            until(lambda: len(made.server_state.connections) == 2)
            fake.may.set()
            assert [read(each)[:12] for each in asking] == ["HTTP/1.1 200"] * 2
        until(lambda: not made.server_state.tasks)
        assert fake.asked == 2


# -- the end ---------------------------------------------------------------------------------------


def test_requests_under_way_are_answered_before_it_ends(trained_run):
    with endpoint(trained_run) as (port, process):
        with sockets(port, 1, POST[:-10]) as [connection], sockets(port, 1, b"GET") as [idle]:
            call(port, "GET", "/health")  # so that it has seen both
            process.send_signal(signal.SIGTERM)
            assert read(idle) == ""
            with pytest.raises(ConnectionRefusedError):
                call(port, "GET", "/health")
            connection.sendall(POST[-10:])
            assert '"label":' in read(connection)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0 and "Stopped." in said and "Traceback" not in said


def test_a_request_that_was_not_read_before_the_end_is_answered(fake, monkeypatch):
    monkeypatch.setattr(server, "UNREAD", 60)
    with served(fake) as (port, made), sockets(port, 1, POST[:9]) as [connection]:
        call(port, "GET", "/health")  # so that it has accepted the connection
        made.should_exit = True
        until(lambda: not made.servers[0].is_serving())
        connection.sendall(POST[9:])
        assert read(connection).startswith("HTTP/1.1 200")


def test_what_takes_too_long_at_the_end_is_said(fake, monkeypatch):
    monkeypatch.setattr(server, "GRACE", 0.2)
    with served(fake) as (port, made):
        fake.may.clear()
        with sockets(port, 1, POST) as [connection]:
            until(lambda: fake.asked == 1)
            made.should_exit = True
            found = read(connection)
        assert found.startswith("HTTP/1.1 503") and "the endpoint is ending" in found


def test_answers_on_an_open_connection_are_sent_at_once():
    # asyncio sets TCP_NODELAY only where the protocol is named; else each answer takes 40 ms more.
    with server.listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP
