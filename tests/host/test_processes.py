"""Processes: whose files a killed one left behind, and what the devices of the host are."""

import subprocess
import sys

import pytest

from engine.host import device, processes


def marked(process: subprocess.Popen) -> str:
    return process.stdout.readline().strip()


@pytest.fixture
def other():
    """Another process, which prints its mark and lives until its input is closed."""
    code = "import sys; from engine.host import processes\nprint(processes.mark(), flush=True)\n"
    with subprocess.Popen(
        [sys.executable, "-c", code + "sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


def test_only_what_a_process_that_has_ended_was_writing_is_abandoned(tmp_path, other):
    own, theirs = processes.mark(), marked(other)
    for mark in (own, theirs):
        assert not processes.abandoned(tmp_path / f".import.{mark}abc_1234")
    other.stdin.close()
    other.wait()
    assert processes.abandoned(tmp_path / f".import.{theirs}abc_1234")
    assert not processes.abandoned(tmp_path / f".import.{own}abc_1234")


@pytest.mark.parametrize(
    "name", [".import.abc_123", ".upload.12-34", ".import.1-100.abc_1234", ".import."]
)
def test_names_of_earlier_versions_and_boots_are_abandoned(tmp_path, name):
    assert processes.abandoned(tmp_path / name)


@pytest.fixture
def nvidia(tmp_path, monkeypatch):
    """A host with nvidia-smi, whose answer the test sets; None: it does not answer in time."""
    answers = {"now": None}

    def run(query, **options):
        if answers["now"] is None:
            raise subprocess.TimeoutExpired(query, 10)
        return subprocess.CompletedProcess(query, 0, stdout=answers["now"])

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(device.shutil, "which", lambda tool: f"/usr/bin/{tool}")
    monkeypatch.setattr(device.subprocess, "run", run)
    monkeypatch.setattr(device, "_known", {})
    return answers


def test_a_gpu_that_is_slow_to_answer_once_is_a_gpu_and_is_asked_again(nvidia):
    first = device.describe()
    assert first["kind"] == "gpu" and "does not answer" in first["text"]
    nvidia["now"] = "Quadro, 8192\n"
    assert device.describe()["text"] == "Quadro, 8 GB"
    nvidia["now"] = None
    assert device.describe()["text"] == "Quadro, 8 GB"
