"""What the gate costs: thumbnails and reruns with it and without, alternately; and 60 open pages.

Three servers run side by side: the app without its gate, with it, and with it and accounts.
"""

import asyncio
import concurrent.futures
import contextlib
import http.client
import shutil
import statistics
import time

import psutil
import websockets

from benchmarks import common
from benchmarks.viewer import BackMsg, ForwardMsg
from engine import home as homes
from engine.accounts import sessions, store, users
from engine.data import datasets
from engine.recipe import load_preset

BLOCK, BLOCKS, CONNECTIONS = 600, 12, 40
"""Thumbnails from one server, how often, and over how many connections at once: enough of them that
the server is never idle."""
RERUNS, IN_A_ROW = 20, 10
PAGES, EACH = 60, 5
"""Open pages, and reruns of each."""
KINDS = ("without", "gate", "accounts")


def run(home, quick) -> dict:
    dataset = common.prepared(load_preset("sample"), home)
    names = [f"/thumbs/{datasets.key(load_preset('sample').dataset)}/{each}" for each in
             dataset.contents.tolist()[:BLOCK]]  # fmt: skip
    other = home / "accounts"
    shutil.copytree(home / homes.DATASETS, other / homes.DATASETS)
    # A trainer's pages are those of a home without accounts; an admin's also list users.
    users.add(homes.home(other), "tom", "trainer", "correct horse battery staple")
    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(served(place, kind, script))
            for kind, place, script in zip(
                KINDS, (home, home, other), ("benchmarks/without_gate.py", "app.py", "app.py"),
                strict=True,
            )
        ]  # fmt: skip
        common.say("thumbnails")
        thumbnails = alternately(made, lambda server: server.block(names), 2 if quick else BLOCKS)
        common.say("reruns")
        reruns = asyncio.run(rerun_all(made, 3 if quick else RERUNS))
        common.say(f"{PAGES} pages")
        pages = asyncio.run(many(made[2], 3 if quick else PAGES, EACH))
    found = {"thumbnails": thumbnails, "reruns": reruns, "pages": pages}
    return {"rows": rows(found), "figures": found}


class Server:
    """One of the servers: its address, process and the cookie that it gets."""

    def __init__(self, address, process, cookie):
        self.address, self.process, self.cookie = address, psutil.Process(process.pid), cookie
        self.headers = {"Cookie": cookie}

    def block(self, names) -> tuple[float, float]:
        """(seconds, processor seconds of the server) for each of some thumbnails."""
        with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool:
            self.get(names[:1])
            used, begun = sum(self.process.cpu_times()[:2]), time.perf_counter()
            list(pool.map(self.get, [names[i::CONNECTIONS] for i in range(CONNECTIONS)]))
            took = time.perf_counter() - begun
        return took / len(names), (sum(self.process.cpu_times()[:2]) - used) / len(names)

    def get(self, names) -> None:
        """Asks for thumbnails over one connection."""
        made = http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=60)
        with contextlib.closing(made) as connection:
            for name in names:
                connection.request("GET", name, headers=self.headers)
                answer = connection.getresponse()
                if answer.status != 200 or not answer.read():
                    raise RuntimeError(f"{name}: {answer.status}")

    def page(self):
        """A websocket to a page."""
        return websockets.connect(
            self.address.replace("http", "ws", 1) + "/_stcore/stream", origin=self.address,
            subprotocols=["streamlit"], additional_headers=self.headers, max_size=None,
        )  # fmt: skip


@contextlib.contextmanager
def served(home, kind, script):
    """A Server."""
    from tests.support.browser import server

    with server(home, home / f"{kind}.log", script=script) as (address, process):
        # Streamlit and Starlette read it too, so each server gets one.
        token = sessions.begin(home, "tom") if kind == "accounts" else store.new_token()
        yield Server(address, process, f"graft_session={token}")


def alternately(made, measure, times) -> dict:
    """{kind: [what was measured, each time]}."""
    for server in made:
        measure(server)  # the first time, files are opened
    found = {kind: [] for kind in KINDS}
    for number in range(times):
        order = list(zip(KINDS, made, strict=True))
        for kind, server in order if number % 2 else order[::-1]:
            found[kind].append(measure(server))
    return found


async def rerun(socket) -> float:
    """Seconds of a rerun of the Runs page, from the request to its end."""
    message, begun = BackMsg(), time.perf_counter()
    message.rerun_script.page_name = "runs"
    await socket.send(message.SerializeToString())
    async for data in socket:
        if ForwardMsg.FromString(data).WhichOneof("type") == "script_finished":
            return time.perf_counter() - begun
    raise RuntimeError("the server closed the page")


async def rerun_all(made, times) -> dict:
    """{kind: [(seconds, processor seconds of the server) for a rerun]}, alternately."""
    found = {kind: [] for kind in KINDS}
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(server.page()) for server in made]
        for socket in sockets:
            await rerun(socket)
        for _ in range(times):
            for kind, server, socket in zip(KINDS, made, sockets, strict=True):
                used = sum(server.process.cpu_times()[:2])
                took = [await rerun(socket) for _ in range(IN_A_ROW)]
                used = sum(server.process.cpu_times()[:2]) - used
                found[kind].append((statistics.fmean(took), used / IN_A_ROW))
    return found


async def many(server, pages, each) -> dict:
    """Memory of the server, and seconds of reruns, with many open pages that rerun all at once."""
    before = server.process.memory_info().rss
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(server.page()) for _ in range(pages)]

        async def busy(socket):
            return [await rerun(socket) for _ in range(each)]

        found = await asyncio.gather(*map(busy, sockets))
        after = server.process.memory_info().rss
    seconds = sorted(value for one in found for value in one)
    return {"before": before, "after": after, "pages": pages, "seconds": seconds}


def rows(found) -> list:
    """Rows of the table."""
    made = []
    for part, name in (("thumbnails", "a thumbnail"), ("reruns", "a rerun of the Runs page")):
        took, used = ({kind: [1000 * each[i] for each in found[part][kind]] for kind in KINDS}
                      for i in (0, 1))  # fmt: skip
        for kind, what in (("gate", "the gate"), ("accounts", "the gate and accounts")):
            base, cpu = statistics.fmean(used["without"]), statistics.fmean(used[kind])
            note = f"baseline: without the gate; {cpu - base:+.3f} ms of processor time; "
            note += f"median time {statistics.median(took['without']):.2f} ms, "
            note += f"{statistics.median(took[kind]):.2f} ms"
            what = f"the server's processor time for {name}, with {what}"
            made.append(common.row(what, [base], [cpu], "ms", note=note))
    pages, seconds = found["pages"], found["pages"]["seconds"]
    p95 = 1000 * seconds[int(0.95 * len(seconds))]
    memory = (pages["after"] - pages["before"]) / pages["pages"] / 1e6
    one = [statistics.median(1000 * took for took, _ in found["reruns"]["accounts"])]
    note = f"baseline: of one; p95 {p95:.0f} ms; the server has {pages['after'] / 1e6:.0f} MB, "
    note += f"{memory:.1f} MB for each page"
    what = f"a rerun of each of {pages['pages']} open pages at once"
    made.append(common.row(what, one, [1000 * statistics.median(seconds)], "ms", note=note))
    return made
