"""The endpoint, called over HTTP as a user's program would."""

import contextlib
import http.client
import logging
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.images import decode
from engine.predict import confidence
from engine.predict.classifier import Classifier
from engine.serve import limits as serving_limits
from engine.serve import server
from tests.support.cli import graft
from tests.support.pictures import encode, picture
from tests.support.serve import call, endpoint, form

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def port(trained_run):
    """An endpoint with small limits, and none on the rate."""
    limits = ["--max-file-mb", 1, "--max-files", 4, "--max-request-mb", 3, "--rate", 0]
    with endpoint(trained_run, *limits) as (port, _):
        yield port


def test_answers_are_those_of_the_classifier(port, trained_run):
    photos = [row["path"] for row in trained_run.examples()][:4]
    expected = Classifier(trained_run).predict(photos)
    files = [(path.name, path.read_bytes()) for path in photos]
    status, _, found = call(port, "POST", "/classify?top=2", *form(*files))
    assert status == 200 and found["run"] == trained_run.id
    judged = confidence.Confidence(trained_run).verdicts(expected)
    assert [answer["sure"] for answer in found["answers"]] == [verdict.kind for verdict in judged]
    assert [answer["likely"] for answer in found["answers"]] == [v.likely for v in judged]
    for answer, path, theirs in zip(found["answers"], photos, expected, strict=True):
        assert answer["name"] == path.name and answer["error"] is None and answer["seconds"] > 0
        assert [row["label"] for row in answer["top"]] == [label for label, _ in theirs.top(2)]
        for row, (_, probability) in zip(answer["top"], theirs.top(2), strict=True):
            assert abs(row["probability"] - probability) <= 1e-5
        assert answer["label"] == answer["top"][0]["label"]
        assert answer["probability"] == answer["top"][0]["probability"]


def test_a_file_that_cannot_be_read_spoils_no_other(port):
    good = encode(picture())
    files = [
        ("a.png", good),
        ("b.txt", b"words"),
        ("c.png", b""),
        ("d.png", good[: len(good) // 2]),
    ]
    status, _, found = call(port, "POST", "/classify", *form(*files))
    assert status == 200
    assert [bool(answer["error"]) for answer in found["answers"]] == [False, True, True, True]
    assert "not an image" in found["answers"][1]["error"]
    assert found["answers"][2] | {"seconds": 0} == {
        "name": "c.png", "label": None, "probability": None, "top": [], "sure": None,
        "likely": None, "distance": None, "error": decode.EMPTY, "seconds": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "body, kind, status, words",
    [
        (None, None, 400, "-F files=@"),
        (*form(), 400, "-F files=@"),
        (*form(("a.png", b"x"), field="image"), 400, "field files"),
        (*form((None, b"a.png")), 400, "holds text"),
        (*form(("", b"")), 400, "-F files=@"),
        (b"nonsense", "multipart/form-data; boundary=border", 400, "cannot be read"),
        (b"nonsense", "multipart/form-data", 400, "cannot be read"),
        (*form(*[(f"{i}.png", b"x") for i in range(5)]), 413, "at most 4 files"),
        (*form(("a.png", bytes(MEGABYTE + 1))), 413, "a.png is larger than"),
        (*form(*[(f"{i}.png", bytes(MEGABYTE)) for i in range(4)]), 413, "3,000,000"),
        (b"{}", "application/json", 400, "-F files=@"),
    ],
)
def test_requests_that_cannot_be_answered_get_a_sentence(body, kind, status, words, port):
    found = call(port, "POST", "/classify", body, kind)
    assert found[0] == status and list(found[2]) == ["error"] and words in found[2]["error"]


def test_what_is_too_large_is_turned_away_whatever_it_says_of_its_length(port):
    body, kind = form(("a.png", bytes(5 * MEGABYTE)))
    pieces = (body[i : i + 65_536] for i in range(0, len(body), 65_536))
    status, _, found = call(port, "POST", "/classify", pieces, kind)  # in chunks, with no length
    assert status == 413 and "3,000,000" in found["error"]

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.putrequest("POST", "/classify")
        connection.putheader("Content-Type", kind)
        connection.putheader("Content-Length", str(10**12))
        connection.endheaders()  # and nothing of it is sent
        assert connection.getresponse().status == 413


def test_errors_are_json_everywhere(port):
    assert call(port, "GET", "/nowhere")[2] == {
        "error": "there is nothing at this address; see /docs"
    }
    assert call(port, "DELETE", "/classify")[0] == 405
    status, _, found = call(port, "POST", "/classify?top=0", *form(("a.png", b"x")))
    assert status == 422 and found["error"].startswith("top: ")


def test_it_says_what_it_is_without_a_network(port, trained_run):
    assert call(port, "GET", "/health")[2] == {"status": "ok", "run": trained_run.id}
    about = call(port, "GET", "/about")[2]
    assert about["classes"] == trained_run.classes
    assert about["image_size"] == trained_run.recipe.image_size
    assert about["test"]["accuracy"] == trained_run.evaluation["test"]["accuracy"]
    assert len(about["test"]["interval"]) == 2 and about["limits"]["files"] == 4
    schema = call(port, "GET", "/openapi.json")[2]
    assert {"/classify", "/about", "/health"} <= set(schema["paths"])
    described = schema["components"]["schemas"]["Classified"]["properties"]["sure"]["description"]
    for kind, meaning in confidence.MEANING.items():
        assert f'"{kind}": {meaning}' in described
    page = call(port, "GET", "/docs")[2]
    for path in schema["paths"]:
        assert path in page
    assert "<script" not in page and "http://" not in page.replace("http://HOST:PORT", "")
    assert "https://" not in page


def test_many_clients_at_once_get_their_own_answers(port, trained_run):
    photos = [row["path"] for row in trained_run.examples()][:8]
    expected = [a.top(1)[0][0] for a in Classifier(trained_run).predict(photos)]

    def ask(path):
        return call(port, "POST", "/classify", *form((path.name, path.read_bytes())))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, photos))
    assert [body["answers"][0]["label"] for _, _, body in found] == expected


def test_who_asks_too_often_is_told_when_to_come_back(trained_run):
    with endpoint(trained_run, "--rate", 3) as (port, process):
        body = form(("a.png", encode(picture())))
        found = [call(port, "POST", "/classify", *body) for _ in range(4)]
        assert [status for status, _, _ in found] == [200, 200, 200, 429]
        assert (
            1 <= int(found[3][1]["Retry-After"]) <= 20
            and "3 requests a minute" in found[3][2]["error"]
        )
        # An address that a client gives itself counts for nothing.
        assert call(port, "GET", "/about", X_Forwarded_For="10.1.2.3")[0] == 429
        assert call(port, "GET", "/health")[0] == 200

        taken = graft("serve", trained_run.id, "--port", port, home=trained_run.path.parent.parent)
        assert taken.returncode == 2 and f"cannot listen on port {port}" in taken.stderr
        assert "Traceback" not in taken.stderr

        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0 and "Stopped." in said and "Traceback" not in said


def test_keys_names_and_proxies_are_given_on_the_command_line(trained_run):
    home = trained_run.path.parent.parent
    key = graft("keys", "create", "test", home=home).stdout.strip()
    options = ["--keys", "--allowed-host", "graft.example", "--trusted-proxy", "127.0.0.1"]
    try:
        with endpoint(trained_run, *options, "--rate", 1) as (port, _):

            def status(address, **headers):
                headers |= {"X-Forwarded-For": address, "Host": "graft.example"}
                return call(port, "GET", "/about", **headers)[0]

            assert [status("1.1.1.1"), status("1.1.1.1"), status("1.1.1.2")] == [401, 429, 401]
            assert status("1.1.1.1", Authorization=f"Bearer {key}") == 200
    finally:
        graft("keys", "revoke", "test", home=home)
    for option in ("--trusted-proxy", "--allowed-host"):
        done = graft("serve", trained_run.id, option, "a/b", home=home)
        assert done.returncode == 2 and "'a/b' was given" in done.stderr


def test_a_bucket_fills_again_and_old_ones_are_forgotten(monkeypatch):
    now = [0.0]
    rate = serving_limits.Rate(60, lambda: now[0])
    assert [rate.wait("a") for _ in range(60)] == [0] * 60
    assert rate.wait("a") == pytest.approx(1) and rate.wait("b") == 0
    now[0] = 1.0
    assert rate.wait("a") == 0 and rate.wait("a") > 0
    monkeypatch.setattr(serving_limits, "ADDRESSES", 2)
    rate.wait("c")
    assert rate.wait("a") > 0  # "b", silent for longest, was forgotten


def test_making_a_server_leaves_the_logs_of_the_process_alone():
    """Keras' log closes its stream, the standard error, when it is closed."""
    closed = []

    class Handler(logging.StreamHandler):
        def close(self):
            closed.append(self)
            super().close()

    handler = Handler()
    server.server(lambda scope, receive, send: None)
    assert handler not in closed
