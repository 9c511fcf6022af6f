"""What the tests of faults share: a home, and a run without interruption."""

import pytest

from engine import home as homes
from tests.faults import harness
from tests.support.training import trained_once


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    folder = homes.home(tmp_path_factory.mktemp("faults"))
    yield folder
    harness.end_all(folder)


@pytest.fixture(scope="session")
def undisturbed(home, tmp_path_factory, worker_id):
    """A run without interruption."""
    run = trained_once(harness.recipe(), home, tmp_path_factory, worker_id)
    harness.end_all(home)
    return run
