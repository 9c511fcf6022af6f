"""How long an import may take, and what imports that were killed leave behind."""

import os
import subprocess

import pytest

from engine.data.sources import uploads
from engine.errors import RunError
from engine.host import processes
from engine.imports import imports, keras_file

GONE = "1-100."
"""The mark of a process of another boot."""


@pytest.mark.parametrize(
    ("kind", "folder"), [(".import.", "runs"), (".upload.", "uploads")], ids=["import", "upload"]
)
def test_only_what_killed_processes_left_is_swept_however_old_it_is(own_home, kind, folder):
    among = own_home / folder
    among.mkdir(exist_ok=True)
    busy, left = among / f"{kind}{processes.mark()}a", among / f"{kind}{GONE}b"
    for path in (busy, left):
        path.mkdir() if kind == ".import." else path.touch()
        os.utime(path, (1, 1))  # nothing was written for decades
    if kind == ".import.":
        with imports.staging(own_home) as place:
            assert place.is_dir() and not processes.abandoned(place)
    else:
        uploads._sweep(among)
    assert busy.exists() and not left.exists()
    assert set(among.iterdir()) == {busy}


class Loading:
    """A process that loads a model: it ends after some looks."""

    pid = os.getpid()
    returncode = 0

    def __init__(self, looks):
        self.left = looks

    def wait(self, seconds=None):
        if seconds and self.left:
            self.left -= 1
            raise subprocess.TimeoutExpired("loading", seconds)


@pytest.mark.parametrize("computes", [True, False])
def test_a_busy_host_may_take_as_long_as_it_needs_to_load_a_model(tmp_path, monkeypatch, computes):
    now, used = iter(range(0, 10**6, 400)), iter(range(10**6))
    monkeypatch.setattr(keras_file.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(keras_file, "_cpu_seconds", lambda pid: next(used) if computes else 0.0)
    monkeypatch.setattr(keras_file.subprocess, "Popen", lambda *_, **__: Loading(20))
    monkeypatch.setattr(keras_file.os, "killpg", lambda *_: None)
    (tmp_path / "result.json").write_text('{"error": "it was read to its end"}')
    said = "read to its end" if computes else "longer than the limit"
    with pytest.raises(RunError, match=said):
        keras_file.in_separate_process(
            tmp_path, {"seconds": 600}, lambda *_: None, keras_file.Result
        )
