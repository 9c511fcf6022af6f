"""What the tests share: trained runs, made once a session, and small pictures.

Real photos are used where TFDS_DATA_DIR and KERAS_HOME are set (see README, Tests); the built-in
sample otherwise.
"""

import io
import os
import shutil
from pathlib import Path

import filelock
import numpy as np
import pytest
from PIL import Image

from engine import home as homes
from engine.jobs import jobs
from engine.recipe import load_preset
from engine.runs import runs

REAL = "needs TFDS_DATA_DIR with tf_flowers and KERAS_HOME with MobileNetV2 0.35 weights (README, Tests)"


def has_real_data() -> bool:
    """Whether real photos and real ImageNet weights lie where the variables point."""
    photos = Path(os.environ.get("TFDS_DATA_DIR", "/nowhere")) / "tf_flowers"
    weights = Path(os.environ.get("KERAS_HOME", "/nowhere")) / "models"
    return photos.exists() and any(weights.glob("mobilenet_v2*0.35_224_no_top.h5"))


real_data = pytest.mark.skipif(not has_real_data(), reason=REAL)


@pytest.fixture(scope="session")
def graft_home(tmp_path_factory):
    """A home of the session's own."""
    return homes.home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def own_home(tmp_path):
    """A home of the test's own."""
    return homes.home(tmp_path / "home")


def _train(recipe, home):
    run = jobs.wait(jobs.start(recipe, home))
    assert run.status == "finished", f"{run.error}\n{run.log_tail()}"
    # A finished run's process still removes its checkpoints, which would disturb who copies the folder.
    with filelock.FileLock(run.path / "worker.lock"):
        return run


def _trained_once(recipe, home, factory, worker):
    """A finished run, trained once for all of pytest's processes; each has a copy in its own home."""
    if worker == "master":
        return _train(recipe, home)
    place = factory.getbasetemp().parent / f"trained-{recipe.name}"
    with filelock.FileLock(f"{place}.lock"):
        if not (place / "id").exists():
            run = _train(recipe, homes.home(place))
            (place / "id").write_text(run.id)
    for part in ("datasets", "cache", f"runs/{(place / 'id').read_text()}"):
        shutil.copytree(place / part, home / part, dirs_exist_ok=True)
    return runs.get_run(home, (place / "id").read_text())


@pytest.fixture(scope="session")
def trained_run(graft_home, tmp_path_factory, worker_id):
    """A finished run of the preset sample, as a user gets it."""
    return _trained_once(load_preset("sample"), graft_home, tmp_path_factory, worker_id)


@pytest.fixture(scope="session")
def flowers_run(graft_home, tmp_path_factory, worker_id):
    """A finished run of the preset flowers on real photos, with real ImageNet weights; its second
    stage shortened to two epochs, which is what it takes to keep the preset's promise."""
    if not has_real_data():
        pytest.skip(REAL)
    recipe = load_preset("flowers", ["stages.1.epochs=2"])
    return _trained_once(recipe, graft_home, tmp_path_factory, worker_id)


@pytest.fixture(scope="session")
def informative_run(request, graft_home):
    """A run whose weights say something: on real photos where they are, on the sample otherwise."""
    return request.getfixturevalue("flowers_run" if has_real_data() else "trained_run")


def picture(width=64, height=48, seed=0, mode="RGB") -> Image.Image:
    """A smooth random picture: compresses like a photo, and no two seeds are alike."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 255, (6, 8, 3), np.uint8).astype(np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encode(image, format="PNG", **options) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


@pytest.fixture
def class_folder(tmp_path):
    """A class-per-folder directory: three classes of 12 pictures of different colours."""
    root = tmp_path / "pets"
    for label, colour in enumerate(("red", "green", "blue")):
        (root / colour).mkdir(parents=True)
        for i in range(12):
            tint = Image.new("RGB", (64, 48), colour)
            Image.blend(picture(seed=100 * label + i), tint, 0.6).save(
                root / colour / f"{i:02d}.jpg"
            )
    return root
