"""A running endpoint, and requests to it."""

import contextlib
import http.client
import json
import os
import subprocess
import sys

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


def call(port, method, path, body=None, kind=None, **headers):
    """(status, headers, JSON or text) of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        headers = {k.replace("_", "-"): v for k, v in headers.items()}
        connection.request(method, path, body, headers | ({"Content-Type": kind} if kind else {}))
        answer = connection.getresponse()
        content = answer.read().decode()
    if answer.headers["Content-Type"] == "application/json":
        content = json.loads(content)
    return answer.status, answer.headers, content
