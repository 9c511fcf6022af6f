"""Signing in and out: with a password, at an OpenID provider, behind a proxy."""

import http.client
import re
import sys
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from joserfc.jwk import RSAKey
from starlette.requests import Request

from engine import actions
from engine import home as homes
from engine.accounts import users
from engine.errors import GraftError
from engine.host import settings
from pages._gate import provider as openid
from pages._gate.signing_in import local_path
from tests.support import loop
from tests.support.browser import server
from tests.support.gate import PASSWORD, App, people, sign_in
from tests.support.openid import provider

MAIL = {"email": "Zoe@School.example", "email_verified": True}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    found = homes.home(tmp_path_factory.mktemp("sign-in") / "home")
    people(found)
    users.add(found, "zoe", "viewer", email="zoe@school.example")
    settings.change(found, trusted_proxies="127.0.0.1, 10.0.0.0/8")
    return found


@pytest.fixture(scope="module")
def elsewhere():
    with provider() as found:
        yield found


@pytest.fixture(scope="module")
def app(home, elsewhere, tmp_path_factory):
    values = ("graft", "secret", f"{elsewhere.address}/.well-known/openid-configuration")
    values += ("http://127.0.0.1/oauth2callback",)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(openid.VARIABLES.values(), values, strict=True):
            patch.setenv(name, value)
        with server(home, tmp_path_factory.mktemp("log") / "log") as (address, _):
            yield App(address)


def kept(headers):
    """The session's cookie in an answer."""
    found = SimpleCookie("; ".join(headers.get_all("Set-Cookie")))
    return found["graft_session"]


def said(text):
    """The sentence of an error on the page."""
    return re.search(r'role="alert">([^<]*)<', text)[1]


# -- with a password -------------------------------------------------------------------------------


def test_a_right_password_opens_the_page_that_was_asked_for(app, home):
    status, headers, _ = sign_in(app, "Vera", PASSWORD, "?next=%2Fruns%3Frun%3Da")
    assert (status, headers["Location"]) == (303, "/runs?run=a")
    cookie = kept(headers)
    assert cookie["httponly"] and cookie["samesite"] == "lax" and cookie["path"] == "/"
    assert not cookie["secure"]  # it came by HTTP
    mine = f"graft_session={cookie.value}"
    logged = actions.log.entries(home, 1)[0]
    assert (logged["who"], logged["action"], logged["address"]) == ("vera", "sign in", "127.0.0.1")
    assert app.ask("GET", "/runs", mine)[0] == 200
    assert app.ask("GET", "/sign-in?next=/test", mine)[1]["Location"] == "/test"
    status, headers, _ = app.ask("POST", "/sign-out", mine)
    assert (status, headers["Location"]) == (303, "/sign-in")
    assert app.ask("GET", "/runs", mine)[0] == 401


@pytest.mark.parametrize(
    "name, password", [("vera", "wrong"), ("nobody", PASSWORD), ("zoe", ""), ("", "")]
)
def test_a_wrong_one_says_so_and_not_what_was_wrong(app, name, password):
    status, headers, text = sign_in(app, name, password, X_Forwarded_For="192.0.2.1")
    assert status == 401 and "Set-Cookie" not in headers
    assert said(text) == "The name or the password is wrong."


def test_the_form_shows_what_was_typed_as_text(app):
    _, headers, text = sign_in(app, '"><script>', "x", "?next=/%22%3E", X_Forwarded_For="192.0.2.9")
    assert "<script" not in text and 'value="&quot;&gt;&lt;script&gt;"' in text
    assert "script-src" not in headers["Content-Security-Policy"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "given",
    ["//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil.example", "runs", "",
     "/\x00", "javascript:alert(1)"],
)  # fmt: skip
def test_only_a_path_of_this_server_is_gone_to(app, given):
    _, headers, _ = sign_in(app, "tom", PASSWORD, f"?next={quote(given, safe='')}")
    assert headers["Location"] == "/"


def test_below_a_base_path_the_page_to_go_to_is_below_it_too():
    assert local_path("/graft/runs?a=b", "/graft") == "/graft/runs?a=b"
    assert local_path("/runs", "/graft") == local_path("/graft//evil", "/graft") == "/graft/"


def test_too_many_wrong_ones_must_wait_and_others_need_not(app):
    for _ in range(users.TRIES["name and address"]):
        assert sign_in(app, "ada", "wrong", X_Forwarded_For="198.51.100.1")[0] == 401
    status, headers, text = sign_in(app, "ada", PASSWORD, X_Forwarded_For="198.51.100.1")
    assert status == 429 and 0 < int(headers["Retry-After"]) <= users.WINDOW
    assert said(text).startswith("Too many sign-ins failed; try again in")
    assert sign_in(app, "ada", PASSWORD, X_Forwarded_For="198.51.100.2")[0] == 303
    # The proxies' own addresses are passed over, and what the client wrote before is not believed.
    chain = "203.0.113.5, 198.51.100.1, 10.1.2.3"
    assert sign_in(app, "ada", PASSWORD, X_Forwarded_For=chain)[0] == 429


def test_all_addresses_of_a_network_of_ipv6_are_one_client(app):
    addresses = [f"2001:db8:0:1::{last}" for last in range(users.TRIES["name and address"] + 1)]
    tries = [sign_in(app, "ada", "wrong", X_Forwarded_For=each)[0] for each in addresses]
    assert tries == [401] * (len(tries) - 1) + [429]
    assert sign_in(app, "ada", PASSWORD, X_Forwarded_For="2001:db8:0:2::1")[0] == 303


def test_who_could_not_be_signed_out_reads_so(app, home, monkeypatch):
    mine = f"graft_session={kept(sign_in(app, 'tom', PASSWORD)[1]).value}"
    accounts = home / homes.ACCOUNTS
    kept_file = accounts.read_bytes()
    try:
        accounts.write_bytes(b"this is not a database, but longer than its header" * 100)
        status, headers, text = app.ask("POST", "/sign-out", mine)
    finally:
        accounts.write_bytes(kept_file)
    assert status == 503 and "cannot be used" in said(text) and "Set-Cookie" not in headers


def test_behind_https_the_cookie_is_for_https(app):
    _, headers, _ = sign_in(app, "tom", PASSWORD, X_Forwarded_Proto="https")
    assert kept(headers)["secure"]


def test_a_form_of_another_website_signs_nobody_in(app):
    assert sign_in(app, "tom", PASSWORD, Origin="http://evil.example")[0] == 403


def test_a_form_is_small(app):
    assert sign_in(app, "tom", 70_000 * "x")[::2] == (413, "a request here may have at most 0.1 MB")


# -- at an OpenID provider -------------------------------------------------------------------------


def leave(app, wanted="/runs"):
    """(where the provider is, the cookie of the attempt)."""
    status, headers, _ = app.ask("GET", f"/sign-in/provider?next={quote(wanted)}")
    assert status == 302
    return headers["Location"], headers["Set-Cookie"].split(";")[0]


def at_provider(address):
    """The way back, with the provider's code."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    connection.request("GET", f"{parts.path}?{parts.query}")
    answer = connection.getresponse()
    answer.read()
    connection.close()
    back = urlsplit(answer.headers["Location"])
    return f"{back.path}?{back.query}"


def through(app, elsewhere, **claims):
    """(status, headers, text) of a sign-in at the provider, whose token has these claims."""
    elsewhere.claims = claims
    address, cookie = leave(app)
    return app.ask("GET", at_provider(address), cookie)


def test_who_has_an_address_at_the_provider_is_let_in(app, elsewhere):
    assert "Sign in at 127.0.0.1" in app.ask("GET", "/sign-in")[2]
    status, headers, _ = through(app, elsewhere, **MAIL)
    assert (status, headers["Location"]) == (303, "/runs")
    cookie = (
        f"graft_session={SimpleCookie(headers.get_all('Set-Cookie')[0])['graft_session'].value}"
    )
    assert app.ask("GET", "/runs", cookie)[0] == 200


@pytest.mark.parametrize(
    "claims, sentence",
    [
        (MAIL | {"email": "eve@evil.example"}, "Nobody here has the address eve@evil.example"),
        (MAIL | {"email_verified": False}, "has not verified the address Zoe@School.example"),
        ({"email": MAIL["email"]}, "has not verified the address"),
        ({}, "did not say your e-mail address"),
        (MAIL | {"nonce": "of another attempt"}, "failed; try again"),
        (MAIL | {"aud": "another program"}, "failed; try again"),
        (MAIL | {"iss": "https://evil.example"}, "failed; try again"),
        (MAIL | {"exp": 1}, "failed; try again"),
    ],
)
def test_a_token_that_does_not_prove_who_it_is_lets_nobody_in(app, elsewhere, claims, sentence):
    status, headers, text = through(app, elsewhere, **claims)
    assert status == 401 and sentence in said(text)
    assert "graft_session" not in str(headers)


def test_a_token_that_somebody_else_signed_lets_nobody_in(app, elsewhere):
    elsewhere.key = RSAKey.generate_key(2048, {"kid": "first"})
    try:
        status, _, text = through(app, elsewhere, **MAIL)
    finally:
        elsewhere.key = elsewhere.published
    assert status == 401 and "failed; try again" in said(text)


def test_the_way_back_belongs_to_the_browser_that_left(app, elsewhere):
    elsewhere.claims = MAIL
    address, cookie = leave(app)
    back = at_provider(address)
    assert app.ask("GET", back)[0] == 401  # another browser, lured to it
    assert app.ask("GET", back.replace("state=", "state=x"), cookie)[0] == 401
    assert app.ask("GET", "/oauth2callback?error=access_denied", cookie)[0] == 401


def test_pkce_is_used(app, elsewhere):
    asked = parse_qs(urlsplit(leave(app)[0]).query)
    assert asked["code_challenge_method"] == ["S256"] and len(asked["code_challenge"][0]) == 43


def test_a_provider_that_is_set_up_by_half_is_refused(monkeypatch):
    for name in openid.VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
    assert openid.configured("/oauth2callback") is None
    monkeypatch.setenv("GRAFT_OIDC_CLIENT_ID", "graft")
    with pytest.raises(GraftError, match="lacks client_secret, server_metadata_url, redirect_uri"):
        openid.configured("/oauth2callback")
    for name in openid.VARIABLES.values():
        monkeypatch.setenv(name, "https://graft.example/elsewhere")
    with pytest.raises(GraftError, match="redirect_uri must end with /oauth2callback"):
        openid.configured("/oauth2callback")


def test_missing_packages_are_named(monkeypatch):
    for name in openid.VARIABLES.values():
        monkeypatch.setenv(name, "https://graft.example/oauth2callback")
    monkeypatch.setitem(sys.modules, "authlib.integrations.starlette_client", None)
    with pytest.raises(GraftError, match="pip install -r requirements-oidc.txt"):
        openid.configured("/oauth2callback")


def test_what_somebody_writes_into_the_way_back_is_one_line_of_the_log(caplog):
    found = openid.Provider("graft", "secret", "http://127.0.0.1:1/x", "http://127.0.0.1/back")
    query = b"error=a%0Ab&error_description=c%0Aadmin%20has%20signed%20in"
    scope = {"type": "http", "query_string": query, "headers": [], "method": "GET", "session": {}}
    with pytest.raises(GraftError, match="the sign-in at 127.0.0.1 failed"):
        loop.run(found.back(Request(scope)))
    (record,) = caplog.records
    assert "signed in" in record.getMessage() and record.exc_info is None
    assert len(record.getMessage().splitlines()) == 1
