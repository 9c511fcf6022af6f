"""The guest page and the wall over HTTP: what a token opens, what it refuses and never says."""

import html
import json
import re
import shutil
import time

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from engine import actions
from engine import home as homes
from engine.accounts import shares
from engine.predict import guests
from engine.runs import files, runs
from pages._share import routes
from tests.support import loop
from tests.support.pictures import encode, picture

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>{{script}} **bold** & co'


@pytest.fixture(scope="module")
def run(trained_run, tmp_path_factory):
    home = homes.home(tmp_path_factory.mktemp("routes"))
    shutil.copytree(trained_run.path, home / homes.RUNS / trained_run.id)
    return runs.get_run(home, trained_run.id)


@pytest.fixture
def web(run, monkeypatch):
    """A client of these routes alone."""
    monkeypatch.setenv("GRAFT_HOME", str(run.home))
    with TestClient(Starlette(routes=routes.routes())) as client:
        yield client


@pytest.fixture
def photo(run):
    return run.examples()[0]["path"].read_bytes()


def later(monkeypatch, hours):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600 * hours)


def sentence(answer) -> str:
    """The sentence of the page of a link that does not work."""
    return html.unescape(re.search(r"</svg><p>(.*?)</p>", answer.text)[1])


def test_a_guest_reads_the_page_and_an_answer(run, web, photo):
    share, token, _ = actions.share(run, uses=3)
    page = web.get(f"/s/{token}")
    assert page.status_code == 200 and run.recipe.name in page.text
    assert all(label in page.text for label in run.classes)
    assert "Your photos are not kept." in page.text and "wall" not in page.text.split("<main>")[1]
    assert 'capture="environment"' in page.text and "3 photos left" in page.text
    found = web.post(f"/s/{token}/classify", content=photo)
    assert found.status_code == 200 and found.json()["left"] == 2
    reply = found.json()["reply"]
    assert reply["label"] in run.classes and len(reply["top"]) == 3
    assert reply["sentence"] and 0 < reply["probability"] <= 1
    assert shares.by_token(run.home, token).used == 1


def test_below_a_base_path_the_same_routes_answer(run, monkeypatch, photo):
    monkeypatch.setenv("GRAFT_HOME", str(run.home))
    _, token, wall = actions.share(run, wall=True)
    with TestClient(Starlette(routes=routes.routes("/graft"))) as client:
        assert client.get(f"/graft/s/{token}").status_code == 200
        assert client.post(f"/graft/s/{token}/classify", content=photo).status_code == 200
        assert client.get(f"/graft/wall/{wall}/answers").json()["used"] == 1
        assert client.get(f"/s/{token}").status_code == 404


def test_the_page_says_who_keeps_the_photos_and_that_others_see_them(run, web):
    _, token, _ = actions.share(run, collect=True, wall=True)
    said = web.get(f"/s/{token}").text
    assert "Your photos are kept by whoever sent you this link" in said
    assert "is shown on a wall" in said


def test_scripts_run_by_a_number_of_one_answer_and_nothing_calls_out(run, web):
    _, token, wall = actions.share(run, wall=True)
    numbers = set()
    for path in (f"/s/{token}", f"/wall/{wall}", "/s/unknown") * 2:
        answer = web.get(path)
        policy = answer.headers["content-security-policy"]
        number = re.search(r"script-src 'nonce-([\w-]{20,})'; style-src 'nonce-\1'", policy)[1]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        tags = re.findall(r"<(?:script|style)\b[^>]*>", answer.text)
        assert tags and all(f'nonce="{number}"' in tag for tag in tags)
        assert not re.search(r"(?:src|href|action)=", answer.text)
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", answer.text)
        assert not re.search(r"\son\w+=|style=", answer.text.partition("<script")[0])
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        numbers.add(number)
    assert len(numbers) == 6


@pytest.mark.parametrize("end", ["unknown", "revoked", "expired", "used"])
def test_a_link_that_ended_is_one_sentence(run, web, photo, monkeypatch, end):
    share, token, wall = actions.share(run, uses=1, wall=True)
    assert web.post(f"/s/{token}/classify", content=photo).status_code == 200
    expected = "This link has expired or was revoked; ask whoever sent it for a new one."
    if end == "unknown":
        token, wall = wall, token  # each opens its own page only
    elif end == "revoked":
        actions.revoke_share(run.home, share.id)
    elif end == "expired":
        later(monkeypatch, 25)
    else:
        expected = "This link has taken its 1 image; ask whoever sent it for a new one."
    page = web.get(f"/s/{token}")
    assert page.status_code == 410 and sentence(page) == expected
    refused = web.post(f"/s/{token}/classify", content=photo)
    assert refused.status_code == 410
    assert refused.json() == {"error": expected, "closed": True}
    shown = web.get(f"/wall/{wall}"), web.get(f"/wall/{wall}/answers")
    if end == "used":  # what was answered is still shown
        assert [each.status_code for each in shown] == [200, 200]
        assert len(shown[1].json()["ids"]) == 1
    else:
        assert [each.status_code for each in shown] == [410, 410]
        assert "fresh" not in shown[1].json()


@pytest.mark.parametrize("damage", ["deleted", "cut", "unreadable calibration"])
def test_a_run_that_is_gone_or_damaged_is_one_sentence_without_the_hosts_names(
    run, web, photo, damage, tmp_path, monkeypatch
):
    home = homes.home(tmp_path / "damaged")
    shutil.copytree(run.path, home / homes.RUNS / run.id)
    own = runs.get_run(home, run.id)
    monkeypatch.setenv("GRAFT_HOME", str(home))
    _, token, wall = actions.share(own, wall=True)
    if damage == "deleted":
        actions.delete(own)
    elif damage == "cut":
        model = own.path / files.LITERT
        model.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    else:
        (own.path / "confidence.json").write_text("{")
    for page in (web.get(f"/s/{token}"), web.get(f"/wall/{wall}")):
        assert page.status_code == 410 and sentence(page) == routes.LOST
    refused = web.post(f"/s/{token}/classify", content=photo)
    assert refused.json() == {"error": routes.LOST, "closed": True}
    assert own.id not in refused.text and str(home) not in refused.text
    assert shares.by_token(home, token).used == 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "file is empty"),
        (b"<svg onload=alert(1)>", "not an image"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 500, "damaged or incomplete"),
        (encode(picture(64, 48))[:200], "damaged or incomplete"),
    ],
)
def test_what_is_no_image_counts_and_says_so(run, web, data, said):
    _, token, _ = actions.share(run, uses=5)
    found = web.post(f"/s/{token}/classify", content=data)
    assert found.status_code == 422 and found.json()["left"] == 4
    assert said in found.json()["error"]
    assert found.json()["error"].endswith("It counts as one of this link's photos.")


def test_a_large_upload_is_stopped_while_it_arrives(run, web):
    _, token, _ = actions.share(run)
    stated = web.post(f"/s/{token}/classify", content=b"", headers={"Content-Length": "20000001"})
    assert stated.status_code == 413
    # The client would hand over a body as a whole: here the server asks for it piece by piece.
    taken = []

    async def receive():
        taken.append(1_000_000)
        return {"type": "http.request", "body": b"\xff" * 1_000_000, "more_body": True}

    answered = []

    async def send(message):
        answered.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/s/{token}/classify",
        "raw_path": b"",
        "query_string": b"",
        "headers": [],
        "client": ("10.0.0.9", 1),
        "server": ("test", 80),
        "scheme": "http",
        "http_version": "1.1",
        "root_path": "",
    }
    loop.run(Starlette(routes=routes.routes())(scope, receive, send))
    assert answered[0]["status"] == 413
    assert sum(taken) <= guests.MOST_BYTES + 1_000_000
    assert "20 MB" in json.loads(answered[1]["body"])["error"]
    assert shares.by_token(run.home, token).used == 0


def test_who_sends_too_often_is_asked_to_wait(run, web, photo, monkeypatch):
    monkeypatch.setattr(guests, "classify", lambda *_: guests.Answered(None, "no", None, 1))
    _, token, _ = actions.share(run, uses=1000)
    got = [web.post(f"/s/{token}/classify", content=b"x") for _ in range(routes.BOUNDS.rate + 1)]
    assert {each.status_code for each in got[:-1]} == {422}
    assert got[-1].status_code == 429 and int(got[-1].headers["retry-after"]) >= 1
    assert "photos a minute" in got[-1].json()["error"]


def test_names_are_text(run, web, photo, monkeypatch):
    _, token, wall = actions.share(run, wall=True)
    classifier, known = guests.opened(run.home, run.id)
    recipe = run.recipe.model_copy(update={"name": HOSTILE})
    monkeypatch.setitem(classifier.run.__dict__, "recipe", recipe)
    monkeypatch.setattr(classifier, "classes", [HOSTILE, *classifier.classes[1:]])
    for path in (f"/s/{token}", f"/wall/{wall}"):
        said = web.get(path).text
        title = re.search(r"<title>(.*?)</title>", said)[1]
        assert html.unescape(title) == HOSTILE and "<img src" not in said
        assert said.count("<script") == 1 and html.escape(HOSTILE) in said
    found = web.post(f"/s/{token}/classify", content=photo)
    assert found.headers["content-type"] == "application/json"  # shown by textContent alone
    for name in ("guest.js", "wall.js"):
        assert "innerHTML" not in routes._FILES[name]


def test_a_wall_gives_each_picture_once_and_takes_down_what_the_sharer_removes(run, web, photo):
    share, token, wall = actions.share(run, wall=True)
    look = lambda after="": web.get(f"/wall/{wall}/answers", params={"after": after}).json()  # noqa: E731
    assert look() == {"ids": [], "fresh": [], "used": 0, "uses": 100}
    for _ in range(2):
        web.post(f"/s/{token}/classify", content=photo)
    found = look()
    first, second = found["ids"]
    assert [each["id"] for each in found["fresh"]] == [first, second]
    assert found["fresh"][0]["picture"].startswith("data:image/jpeg;base64,")
    assert [each["id"] for each in look(second)["fresh"]] == [first] and not look(first)["fresh"]
    actions.clear_wall(share, run.home, {second})
    assert look(first)["ids"] == [first]
    actions.clear_wall(share, run.home)
    assert look(first) == {"ids": [], "fresh": [], "used": 2, "uses": 100}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_a_token_opens_nothing_else(run, web, method):
    _, token, wall = actions.share(run, wall=True)
    for path in (
        f"/s/{token}/answers",
        f"/s/{token}/../../runs",
        f"/s/{token}/classify/x",
        f"/wall/{wall}/classify",
        f"/wall/{token}/answers" if method == "GET" else f"/wall/{wall}/answers",
        "/",
    ):
        assert web.request(method, path).status_code in (404, 405, 410)
