"""What the tests share: trained runs, made once a session, and small pictures.

Real photos are used where TFDS_DATA_DIR and KERAS_HOME are set (see README, Tests); the built-in
sample otherwise.
"""

import pytest
from PIL import Image

from engine import home as homes
from engine import roots
from engine.recipe import load_preset
from tests.support.browser import chromium
from tests.support.pictures import picture
from tests.support.real_data import REAL, has_real_data
from tests.support.training import trained_once


@pytest.fixture(scope="session")
def graft_home(tmp_path_factory):
    """A home of the session's own."""
    return homes.home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def own_home(tmp_path):
    """A home of the test's own."""
    return homes.home(tmp_path / "home")


@pytest.fixture(scope="session")
def trained_run(graft_home, tmp_path_factory, worker_id):
    """A finished run of the preset sample, as a user gets it."""
    return trained_once(load_preset("sample"), graft_home, tmp_path_factory, worker_id)


@pytest.fixture(scope="session")
def flowers_run(graft_home, tmp_path_factory, worker_id):
    """A finished run of the preset flowers on real photos, with real ImageNet weights."""
    if not has_real_data():
        pytest.skip(REAL)
    return trained_once(load_preset("flowers"), graft_home, tmp_path_factory, worker_id)


@pytest.fixture(scope="session")
def informative_run(request, graft_home):
    """A run whose weights say something: on real photos where they are, on the sample otherwise."""
    return request.getfixturevalue("flowers_run" if has_real_data() else "trained_run")


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


@pytest.fixture
def allowed(tmp_path, own_home):
    """The only folder that this process may read, as the app's process for its pages."""
    folder = tmp_path / "allowed"
    folder.mkdir()
    roots.restore({"home": str(own_home), "below": [str(folder)]})
    yield folder
    roots.restore(None)


@pytest.fixture(scope="session")
def browser_type_launch_args():
    """Debian's Chromium, without what a container does not have."""
    options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    return {"executable_path": chromium(), "args": options}


@pytest.fixture(scope="session")
def browser_context_args():
    return {"viewport": {"width": 1440, "height": 1000}}


TRAINED = {"trained_run", "flowers_run", "informative_run", "undisturbed", "inspected"}
LONG = (
    "train/test_training.py", "faults/", "features/test_features.py",
    "estimate/test_rate_finder.py", "estimate/test_preflight.py", "train/test_repeatable.py",
    "browser/", "jobs/test_jobs.py", "data/test_unreadable_runs.py", "inspection/test_payback.py",
    "predict/test_catalogue_explained.py", "pages/test_hostile_uploads.py",
)  # fmt: skip
"""Where tests train for more than a few seconds, or start many processes; the longest first."""


def pytest_collection_modifyitems(config, items):
    """Marks what `make test-fast` leaves out, and puts the longest files first: two processes that
    share the files then end at about the same time."""

    def rank(item):
        place = item.path.relative_to(config.rootpath / "tests").as_posix()
        return next((i for i, long in enumerate(LONG) if place.startswith(long)), len(LONG))

    for item in items:
        if rank(item) < len(LONG) or TRAINED & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)
    items.sort(key=rank)
