"""A running endpoint, and requests to it."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np

from engine.predict.classifier import Answer
from engine.serve import app as serving
from engine.serve import limits, server
from tests.support.browser import free_port


@contextlib.contextmanager
def endpoint(run, *options):
    """`python -m engine serve RUN` on a free port; gives (port, process)."""
    port = free_port()
    command = [sys.executable, "-m", "engine", "serve", run.id, "--port", port, *options]
    environment = os.environ | {"GRAFT_HOME": str(run.path.parent.parent)}
    process = subprocess.Popen(
        [str(word) for word in command], stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        # It listens before it says so.
        said = next((line for line in process.stderr if "Serving run" in line), "")
        assert f"http://127.0.0.1:{port}" in said
        yield port, process
    finally:
        process.terminate()
        process.communicate(timeout=30)


def form(*files, field="files") -> tuple[bytes, str]:
    """A multipart body of (name, bytes), and its content type."""
    parts = []
    for name, data in files:
        named = f'name="{field}"' + (f'; filename="{name}"' if name is not None else "")
        head = b"--border\r\nContent-Disposition: form-data; " + named.encode()
        parts += [head, b"\r\n\r\n", data, b"\r\n"]
    return b"".join([*parts, b"--border--\r\n"]), "multipart/form-data; boundary=border"


def call(port, method, path, body=None, kind=None, address="127.0.0.1", source=None, **headers):
    """(status, headers, JSON or text) of one request, from the address `source`."""
    source = source and (source, 0)
    connection = http.client.HTTPConnection(address, port, timeout=60, source_address=source)
    with contextlib.closing(connection):
        headers = {k.replace("_", "-"): v for k, v in headers.items()}
        connection.request(method, path, body, headers | ({"Content-Type": kind} if kind else {}))
        answer = connection.getresponse()
        content = answer.read().decode()
    if answer.headers["Content-Type"] == "application/json":
        content = json.loads(content)
    return answer.status, answer.headers, content


class Fake:
    """A classifier that says "red" to everything, without a network.

    Attributes:
        may: answers wait until it is set.
        asked: how many requests were classified.
    """

    def __init__(self, path):
        recipe = SimpleNamespace(name="fake", backbone=SimpleNamespace(title="none"))
        self.run = SimpleNamespace(
            id="fake-run", recipe=recipe, path=path, evaluation=None, checked=path.joinpath
        )
        self.classes, self.size, self.temperature = ["red", "green"], 32, 1.0
        self.may, self.asked = threading.Event(), 0
        self.may.set()

    def predict(self, sources, keep_images):
        """As `engine.predict.classifier.Classifier.predict`."""
        self.asked += 1
        self.may.wait(60)
        sure = np.array([0.75, 0.25], np.float32)
        return [Answer("image", self.classes, sure, seconds=0.001) for _ in sources]


@contextlib.contextmanager
def served(classifier, bounds=None, names=(), keys=None, proxies=(), host="127.0.0.1"):
    """The endpoint in a thread of this process, on a free port; gives (port, server)."""
    app = serving.application(classifier, bounds or limits.Bounds(rate=0), names, keys)
    made, listening = server.server(app, proxies), server.listen(host, 0)
    port = listening.getsockname()[1]
    thread = threading.Thread(target=made.run, args=([listening],))
    thread.start()
    try:
        yield port, made
    finally:
        made.should_exit = True
        thread.join(60)
        assert not thread.is_alive()
