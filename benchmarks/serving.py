"""How the endpoint answers when many ask at once: python -m benchmarks.serving RUN PHOTO.

It starts `python -m engine serve RUN --rate 0` and sends a photo in many requests at the same time.
A client that is asked to come back (429) does so after the seconds in Retry-After.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

REQUESTS = 1_000
TIMES = 5


@dataclass
class Asked:
    """What one client saw.

    Attributes:
        statuses: of its requests, in order.
        seconds: from the first request to the last answer, waiting included.
        body: of the last answer.
    """

    statuses: list[int] = field(default_factory=list)
    seconds: float = 0.0
    body: bytes = b""


def post(body: bytes, kind: str) -> bytes:
    """A request to /classify, as it is sent."""
    head = f"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def ask(port: int, request: bytes) -> Asked:
    """Sends a request until the answer is not 429; comes back when Retry-After says."""
    found, began = Asked(), time.monotonic()
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        head, _, found.body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        first, *rest = head.decode().split("\r\n")
        found.statuses.append(int(first.split()[1]))
        headers = dict(line.lower().split(": ", 1) for line in rest)
        if found.statuses[-1] != 429:
            found.seconds = time.monotonic() - began
            return found
        await asyncio.sleep(int(headers["retry-after"]))


async def burst(port: int, request: bytes, number: int) -> tuple[list[Asked], list[Asked]]:
    """Many clients at once; meanwhile, one asks /health again and again.

    Returns:
        What the clients saw, and the answers of /health.
    """
    health: list[Asked] = []

    async def watch() -> None:
        while True:
            health.append(await ask(port, HEALTH))
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    answers = await asyncio.gather(*(ask(port, request) for _ in range(number)))
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    return answers, health


async def steadily(port: int, request: bytes, number: int, clients: int = 8) -> float:
    """Requests a second of a few clients that each wait for an answer before they ask again."""

    async def client() -> None:
        for _ in range(number // clients):
            await ask(port, request)

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(clients)))
    return number // clients * clients / (time.monotonic() - began)


def _at(share: float, asked: list[Asked]) -> float:
    return sorted(each.seconds for each in asked)[int(share * (len(asked) - 1))]


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def main(run: str, photo: str) -> None:
    """Prints the figures."""
    from tests.support.browser import free_port
    from tests.support.serve import form

    port, path = free_port(), Path(photo)
    command = [sys.executable, "-m", "engine", "serve", run, "--rate", "0", "--port", str(port)]
    request = post(*form((path.name, path.read_bytes())))
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr and any("Serving run" in line for line in process.stderr)
        server = psutil.Process(process.pid)
        for _ in range(TIMES):
            before = asyncio.run(steadily(port, request, 400))
            used = _used(server)
            answers, health = asyncio.run(burst(port, request, REQUESTS))
            used = _used(server) - used
            steady = (before + asyncio.run(steadily(port, request, 400))) / 2
            p95 = _at(0.95, answers)
            print(
                f"{sum(each.statuses[-1] != 200 for each in answers)} of {REQUESTS} lost, "
                f"{sum(len(each.statuses) > 1 for each in answers)} asked to come back; "
                f"median {_at(0.5, answers):.1f} s, p95 {p95:.1f} s, last {_at(1, answers):.1f} s; "
                f"8 clients in turn get {steady:.0f} answers/s, so p95 is "
                f"{p95 * steady / (0.95 * REQUESTS):.2f} of the least possible; "
                f"{used:.1f} s of a core; /health: {len(health)} answers, "
                f"median {_at(0.5, health):.3f} s, p95 {_at(0.95, health):.3f} s, "
                f"slowest {_at(1, health):.1f} s"
            )
        process.terminate()


if __name__ == "__main__":
    main(*sys.argv[1:])
