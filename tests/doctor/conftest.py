"""A home with a file of each kind, for the tests that damage them."""

import pytest

from engine import home as homes
from engine.data import curation, datasets
from engine.host import background, manifest
from engine.recipe import load_preset
from engine.runs import files, queue, runs
from tests.support.cli import graft
from tests.support.damage import SPEC, linked, worse_than_ok
from tests.support.pictures import encode, picture


@pytest.fixture
def home(tmp_path):
    """An empty home."""
    return homes.home(tmp_path / "home")


@pytest.fixture
def run(home):
    """A finished run with its model's files, though nothing is in them that anyone could load."""
    made = runs.create(load_preset("sample", ["name=tulips"]), home)
    made.update(status="finished", kept_stage="frozen")
    for name in ("final.keras", "inference.tflite"):
        (made.path / name).write_bytes(b"model")
    manifest.write(made.path / files.MANIFEST, files.lasting(made.path))
    return made


@pytest.fixture(scope="session")
def whole(trained_run, tmp_path_factory):
    """A home with the trained run, two datasets, a decision about an image, and settings."""
    home = homes.home(tmp_path_factory.mktemp("whole"))
    linked(trained_run.path, home / "runs" / trained_run.id)
    linked(trained_run.home / "datasets", home / "datasets")
    datasets.prepare(SPEC, home)
    background.wait_for(lambda: datasets.job(SPEC, home).state())
    dataset = datasets.open_dataset(SPEC, home)
    curation.decide(home, SPEC, "no", curation.decisions(dataset, [0], "exclude"))
    curation.decide(home, SPEC, "no", curation.decisions(dataset, [1], "exclude"))
    photos = home.parent / "photos"
    photos.mkdir(exist_ok=True)
    for number, label in enumerate(("cat", "dog")):
        path = photos / f"{label}.png"
        path.write_bytes(encode(picture(seed=number)))
        assert graft("add", "mine", path, "--label", label, home=home).returncode == 0
    assert graft("settings", "runs_per_device=2", home=home).returncode == 0
    queue.add(home, "another")
    queue.remove(home, "another")
    assert worse_than_ok(home) == []
    return home


@pytest.fixture
def damaged_home(whole, tmp_path):
    """A copy of the whole home, to damage."""
    return homes.home(linked(whole, tmp_path / "home"))
