"""The same recipe gives the same weights, whatever else the host does."""

import contextlib
import subprocess
import sys

from engine import home as homes
from tests.faults.harness import same_weights
from tests.support.training import train

SHORT = ("dataset.images=60", "stages.0.epochs=1", "stages.1.epochs=1")


@contextlib.contextmanager
def busy(count):
    """Starts `count` processes that keep a core busy each."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def test_a_busy_host_and_a_fresh_home_change_no_bit_of_the_weights(tmp_path):
    quiet = train(homes.home(tmp_path / "quiet"), *SHORT)
    with busy(2):
        crowded = train(homes.home(tmp_path / "crowded"), *SHORT)
    assert same_weights(quiet, crowded)
