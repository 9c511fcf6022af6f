"""Who may ask the endpoint: names of hosts, pages of other websites, proxies, keys."""

import base64
import json
import socket

import pytest

from engine import home as homes
from engine.errors import GraftError
from engine.serve import app, gate, keys, server
from engine.serve.limits import Bounds
from tests.support.cli import graft
from tests.support.pictures import encode, picture
from tests.support.serve import Fake, call, form, served

BODY = form(("a.png", encode(picture())))


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """An endpoint that answers as graft.example too, and needs no key."""
    bounds = Bounds(file_bytes=100_000, request_bytes=200_000, rate=0)
    fake = Fake(tmp_path_factory.mktemp("run"))
    with served(fake, bounds, names=["graft.example", "10.0.0.7:8600"]) as (port, _):
        yield port


@pytest.mark.parametrize("host", ["evil.example", "graft.example.evil.example", "", "a b"])
@pytest.mark.parametrize(
    "method, path", [("POST", "/classify"), ("GET", "/docs"), ("GET", "/health")]
)
def test_a_foreign_name_is_refused_everywhere(method, path, host, port):
    """DNS rebinding: a website points a name of its own at this host."""
    status, _, found = call(port, method, path, *BODY, Host=host)
    assert status == 403 and "--allowed-host" in found["error"]


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:1",
        "127.0.0.1:80",
        "[::1]",
        "[0:0::1]:9",
        "Graft.Example",
        "10.0.0.7",
    ],
)
def test_own_names_are_answered(host, port):
    assert call(port, "GET", "/about", Host=host)[0] == 200


def test_the_address_that_a_connection_came_to_is_an_own_name(tmp_path):
    with served(Fake(tmp_path), host="127.0.0.9") as (port, _):
        assert call(port, "GET", "/about", address="127.0.0.9")[0] == 200
        assert call(port, "GET", "/about", address="127.0.0.9", Host="127.0.0.8")[0] == 403
    with pytest.raises(GraftError, match="graft.example; 'a/b' was given"):
        app.application(Fake(tmp_path), Bounds(), ["a/b"])


def test_pages_of_other_websites_are_refused(port):
    for origin in ("http://evil.example", "http://localhost:1", "null"):
        status, _, found = call(port, "POST", "/classify", *BODY, Origin=origin)
        assert status == 403 and "other websites" in found["error"]
    own = f"http://127.0.0.1:{port}"
    assert call(port, "POST", "/classify", *BODY, Origin=own)[0] == 200


def test_every_answer_says_what_a_page_of_it_may_do(port, tmp_path):
    answers = [
        call(port, "GET", "/docs"),
        call(port, "GET", "/openapi.json"),
        call(port, "GET", "/nowhere"),
        call(port, "DELETE", "/about"),
        call(port, "GET", "/about", Host="evil.example"),
        call(port, "POST", "/classify?top=0", *BODY),
        call(port, "POST", "/classify", *form(("a.png", bytes(150_000)))),
        call(port, "POST", "/classify", *form(("a.png", bytes(250_000)))),
        call(port, "POST", "/classify", *BODY),
    ]
    assert [each[0] for each in answers] == [200, 200, 404, 405, 403, 422, 413, 413, 200]
    fake = Fake(tmp_path)
    fake.predict = None  # so that it fails
    with served(fake) as (other, _):
        answers.append(call(other, "POST", "/classify", *BODY))
    assert answers[-1][0] == 500 and "its log says why" in answers[-1][2]["error"]
    for _, headers, _ in answers:
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert {name: headers[name] for name in gate.HEADERS if "policy" not in name} == {
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            "cache-control": "no-store",
        }
        assert headers["referrer-policy"] == "same-origin"


# -- behind a proxy --------------------------------------------------------------------------------


def test_clients_behind_a_trusted_proxy_are_told_apart(tmp_path):
    bounds = Bounds(rate=2)

    def statuses(port, *forwarded):
        return [call(port, "GET", "/about", X_Forwarded_For=each)[0] for each in forwarded]

    with served(Fake(tmp_path), bounds, proxies=["127.0.0.0/8", "10.0.0.7"]) as (port, _):
        assert statuses(port, "1.1.1.1", "1.1.1.1", "1.1.1.1", "1.1.1.2") == [200, 200, 429, 200]
        # What a client writes itself stands before what the proxies add, and counts for nothing.
        assert statuses(port, "9.9.9.9, 1.1.1.1", "1.1.1.1, 10.0.0.7") == [429, 429]
        # An IPv6 client has 64 bits of addresses.
        assert statuses(port, "2001:db8::1", "2001:db8::2", "2001:db8::3") == [200, 200, 429]
    with served(Fake(tmp_path), bounds, proxies=["10.0.0.7"]) as (port, _):
        assert statuses(port, "1.1.1.1", "1.1.1.2", "1.1.1.3") == [200, 200, 429]


@pytest.mark.parametrize("proxy", ["*", "proxy.example", "10.0.0.1/8", ""])
def test_only_addresses_and_networks_are_trusted(proxy):
    with pytest.raises(GraftError, match="an address or a network, such as 10.0.0.7"):
        server.networks([proxy])
    assert server.networks(["10.0.0.7"]) == ["10.0.0.7/32", "::ffff:10.0.0.7/128"]


# -- keys ------------------------------------------------------------------------------------------


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def test_with_keys_only_their_holders_are_answered(tmp_path):
    both = keys.create(tmp_path, "both", ["classify", "about"])
    one = keys.create(tmp_path, "one", ["classify"])
    with served(Fake(tmp_path), keys=keys.Keys(tmp_path)) as (port, _):
        for path in ("/about", "/docs", "/openapi.json", "/", "/nowhere"):
            status, headers, found = call(port, "GET", path)
            assert status == 401 and "Authorization: Bearer KEY" in found["error"]
            ways = [way.split()[0] for way in headers.get_all("WWW-Authenticate")]
            assert ways == ["Bearer", "Basic"]
            assert call(port, "GET", path, **bearer(one))[0] == 403
            assert call(port, "GET", path, **bearer(both))[0] in (200, 307, 404)
        for wrong in (bearer("x"), bearer(both[:-1]), {"Authorization": both}, bearer("\xe9")):
            assert call(port, "POST", "/classify", *BODY, **wrong)[0] == 401
        assert call(port, "POST", "/classify", *BODY, **bearer(one))[0] == 200
        typed = base64.b64encode(f"anyone:{both}".encode()).decode()  # as a browser asks for it
        assert call(port, "GET", "/docs", Authorization=f"Basic {typed}")[0] == 200
        assert call(port, "GET", "/docs", Authorization="Basic ?")[0] == 401
        assert call(port, "GET", "/health")[0] == 200

        schema = call(port, "GET", "/openapi.json", **bearer(both))[2]
        assert {"key": []} in schema["security"] and "401" in schema["paths"]["/about"]["get"][
            "responses"
        ]
        assert schema["paths"]["/health"]["get"]["security"] == []
        assert "Authorization: Bearer KEY" in call(port, "GET", "/docs", **bearer(both))[2]

        keys.revoke(tmp_path, "one")  # and the endpoint goes on
        assert call(port, "POST", "/classify", *BODY, **bearer(one))[0] == 401
        new = keys.create(tmp_path, "new", ["classify"])
        assert call(port, "POST", "/classify", *BODY, **bearer(new))[0] == 200
        (tmp_path / homes.KEYS).write_text("[{}]")
        status, _, found = call(port, "GET", "/about", **bearer(both))
        assert status == 500 and "cannot read its keys" in found["error"]
        (tmp_path / homes.KEYS).unlink()
        assert call(port, "GET", "/about", **bearer(both))[0] == 401


def test_who_holds_a_key_has_a_rate_of_its_own(tmp_path):
    one, two = (keys.create(tmp_path, name, ["about"]) for name in ("one", "two"))
    with served(Fake(tmp_path), Bounds(rate=2), keys=keys.Keys(tmp_path)) as (port, _):
        assert [call(port, "GET", "/about", **bearer(one))[0] for _ in range(3)] == [200, 200, 429]
        assert call(port, "GET", "/about", **bearer(two))[0] == 200
        assert [call(port, "GET", "/about")[0] for _ in range(3)] == [401, 401, 429]


def test_a_key_is_shown_once_and_kept_hashed(own_home):
    def said(*words):
        return graft("keys", *words, home=own_home)

    made = said("create", "laptop", "--scope", "classify")
    key = made.stdout.strip()
    assert made.returncode == 0 and key.startswith("graft_") and "only time" in made.stderr
    for path in own_home.rglob("*"):
        assert not path.is_file() or key not in path.read_text()
    assert (own_home / homes.KEYS).stat().st_mode & 0o077 == 0
    [listed] = json.loads(said("--json").stdout)
    assert (listed["name"], listed["scopes"]) == ("laptop", ["classify"])
    assert "laptop  classify" in said().stdout
    for words, sentence in (
        (["create", "laptop"], "there is a key laptop already"),
        (["create", "x", "--scope", "all"], "classify and about; all was given"),
        (["create", "a\nb"], "1 to 64 visible characters"),
        (["create"], "keys create NAME"),
        (["revoke", "phone"], "there is no key phone; there is: laptop"),
    ):
        done = said(*words)
        assert done.returncode == 2 and sentence in done.stderr and done.stdout == ""
    assert said("revoke", "laptop").returncode == 0 and json.loads(said("--json").stdout) == []
    done = graft("serve", "latest", "--keys", home=own_home)
    assert done.returncode == 2 and "python -m engine keys create NAME" in done.stderr


@pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * 17_000])
def test_what_is_no_http_gets_a_sentence_too(sent, port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(sent)
        said = connection.makefile("rb").read().decode()
    assert said.startswith("HTTP/1.1 400") and "nosniff" in said
    assert "header below 16 kB" in json.loads(said.partition("\r\n\r\n")[2])["error"]
