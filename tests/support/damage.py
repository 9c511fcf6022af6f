"""Files cut by half, with one byte flipped, or removed; and homes that are copied in a moment."""

import os
import shutil
from pathlib import Path

import pytest

from engine.doctor import doctor
from engine.recipe import DatasetSpec

SPEC = DatasetSpec(source="sample", images=60)
"""A small dataset of the whole home, beside that of its run."""


def cut(path: Path) -> None:
    """Keeps the first half of a file."""
    _write(path, path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Turns the bits of the byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    _write(path, content)


def remove(path: Path) -> None:
    """Deletes a file."""
    path.unlink()


WAYS = (cut, flip, remove)
each_way = pytest.mark.parametrize("damage", WAYS, ids=lambda way: way.__name__)
half_or_byte = pytest.mark.parametrize("damage", WAYS[:2], ids=lambda way: way.__name__)


def linked(source: Path, target: Path) -> Path:
    """A copy of a folder, in which each file is a link: only `cut` and `flip` break them."""
    return Path(shutil.copytree(source, target, copy_function=os.link, dirs_exist_ok=True))


def worse_than_ok(home):
    """What the doctor reports that is worse than "ok"."""
    return [finding for finding in doctor.examine(home) if finding.severity != "ok"]


def only(home):
    """The one finding that is not ok."""
    found = worse_than_ok(home)
    assert len(found) == 1, found
    return found[0]


def fix(home):
    """Fixes, and says whether nothing is left."""
    done = doctor.fix(doctor.examine(home))
    assert all(finding.severity == "ok" for finding in done), done
    return done and not worse_than_ok(home)


def refused(done, name):
    """A command ended with one sentence that names a file and says what to do."""
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr, done.stderr
    assert last.startswith("error: ") and name in last, last
    assert "python -m engine doctor" in last or "python -m engine calibrate" in last, last


def _write(path: Path, content: bytes | bytearray) -> None:
    path.unlink()  # it may be a link to a file that other tests use
    path.write_bytes(content)
