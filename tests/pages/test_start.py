"""When Graft starts: others on the network reach it only if they need an account."""

import asyncio
import os
import socket
import subprocess
import sys

import pytest
import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from engine import home as homes
from engine.accounts import users
from engine.errors import GraftError
from engine.host import settings
from pages._gate import lan, start
from pages._gate.sessions import LOCAL, look
from tests.support import ROOT, loop
from tests.support.browser import free_port, server
from tests.support.gate import PASSWORD, App, cookie, sign_in

ELSEWHERE = "--server.address=0.0.0.0"


@pytest.mark.parametrize(
    "options, proxies, reason",
    [
        ([ELSEWHERE], None, "it listens on 0.0.0.0"),
        (["--server.allowedHosts=graft.example"], None, "it answers under the name graft.example"),
        ([], ["10.0.0.7"], "it is behind the proxy 10.0.0.7"),
    ],
)
def test_without_accounts_it_does_not_start_where_others_reach_it(
    own_home, options, proxies, reason
):
    settings.change(own_home, trusted_proxies=proxies)
    port = f"--server.port={free_port()}"
    ended = subprocess.run(
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true", port,
         *options],
        cwd=ROOT, env=os.environ | {"GRAFT_HOME": str(own_home)}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert f"Graft does not start: {reason}, so others can reach it" in ended.stderr
    assert "python -m engine users add NAME --role admin" in ended.stderr


def test_for_the_network_it_answers_under_the_hosts_own_names_to_people_with_accounts(tmp_path):
    home = homes.home(tmp_path / "home")
    users.add(home, "ada", "admin", PASSWORD)
    options = lan.command("1", "lab-7.school.example", ["192.0.2.5", "127.0.0.1"])
    options = [each for each in options if each.startswith("--server.a") or "--browser" in each]
    with server(home, tmp_path / "log", *options) as (address, _):
        app = App(address)
        for name in ("192.0.2.5", "lab-7.school.example", "lab-7.local", "127.0.0.1"):
            assert app.ask("GET", "/runs", Host=f"{name}:{app.port}")[0] == 401, name
            mine = cookie(home, "ada")
            assert app.ask("GET", "/runs", mine, Host=f"{name}:{app.port}")[0] == 200, name
        assert app.ask("GET", "/runs", mine, Host=f"192.0.2.6:{app.port}")[0] == 403
        # Without a user, everybody on the network would be the person on this host.
        users.remove(home, "ada")
        assert app.ask("GET", "/runs")[0] == 401
        assert "There are no accounts here" in sign_in(app, "ada", PASSWORD)[2]


def test_without_accounts_no_address_on_the_network_is_printed(own_home, monkeypatch, capsys):
    monkeypatch.setenv("GRAFT_HOME", str(own_home))
    monkeypatch.setattr(sys, "argv", ["lan", "1"])
    monkeypatch.setattr(lan, "addresses", lambda: ["192.0.2.5"])
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("it started"))
    with pytest.raises(SystemExit, match="everybody needs an account; create the first"):
        lan.main()
    assert capsys.readouterr().out == ""


def test_without_accounts_only_the_person_on_this_host_is_let_in(own_home, monkeypatch):
    monkeypatch.setenv("GRAFT_HOME", str(own_home))
    assert look("", alone=True) is LOCAL and look("", alone=False) is None


def test_the_addresses_of_this_host_are_its_own_and_not_loopback():
    assert all(not each.startswith("127.") for each in lan.addresses())


@pytest.mark.parametrize(
    "given", ["proxy.example", "10.0.0.0/33", "*", ["10.0.0.1", 7], 12, ""], ids=str
)
def test_a_proxy_is_an_address_or_a_network(own_home, given):
    with pytest.raises(GraftError, match="trusted_proxies must be addresses or networks"):
        settings.change(own_home, trusted_proxies=given)


def test_answers_on_an_open_connection_are_sent_at_once(monkeypatch):
    """Streamlit's socket does not name its protocol, so asyncio leaves the option alone."""
    monkeypatch.setattr(AutoHTTPProtocol, "connection_made", AutoHTTPProtocol.connection_made)
    start.answer_at_once()
    seen = []

    async def app(scope, receive, send):
        connections = running.server_state.connections
        seen.extend(each.transport.get_extra_info("socket") for each in connections)
        seen[0] = seen[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    listening = socket.socket(socket.AF_INET)
    listening.bind(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))

    async def ask():
        serving = asyncio.create_task(running.serve(sockets=[listening]))
        _, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while not seen:
            await asyncio.sleep(0.01)
        writer.close()
        running.should_exit = True
        await serving

    listening.listen()
    loop.run(ask())
    assert seen[0] == 1
