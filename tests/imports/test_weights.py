"""Weights files of backbones: hostile ones get a sentence, and nothing here loads them."""

import sys

import pytest

from engine.errors import BackboneError, GraftError
from engine.imports import keras_file, weights
from engine.models import backbones
from engine.recipe import BackboneSpec
from tests.support import crafted_models, hostile_models

HEAVY = {"keras", "tensorflow", "h5py"}
FILES = [
    make
    for make in hostile_models.REFUSED
    if make not in hostile_models.LOADED
    and make.__name__ not in ("recipe_with_code", "recipe_bomb", "run_with_link", "example_outside",
                              "figures_of_nothing", "zip_of_links")
]  # fmt: skip
"""Files that are refused before a process is started."""


def refused(path, home) -> str:
    """The sentence with which a file is refused; nothing of it is left, and nothing ran."""
    hostile_models.CANARY.unlink(missing_ok=True)
    loaded = set(sys.modules)
    with pytest.raises(GraftError) as error:
        weights.read(path, backbones.get("GraftSmall"), 96, home)
    assert not hostile_models.CANARY.exists()
    assert not {name for name in set(sys.modules) - loaded if name.split(".")[0] in HEAVY}
    assert list((home / "runs").iterdir()) == []
    assert "\n" not in str(error.value) and "Traceback" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
def test_a_hostile_file_is_refused_before_anything_loads_it(make, own_home, tmp_path, monkeypatch):
    path = hostile_models.write(make, tmp_path)
    monkeypatch.setattr(keras_file.subprocess, "Popen", None)
    refused(path, own_home)


def test_weights_that_lie_elsewhere_are_refused_in_a_process_of_their_own(own_home, tmp_path):
    def change(file):
        import h5py

        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = h5py.ExternalLink("/etc/passwd", "/")

    path = tmp_path / "far.h5"
    path.write_bytes(crafted_models.weights(change=change))
    assert refused(path, own_home) == "its weights contain a link to another place or file"


@pytest.mark.parametrize("name", ["there.keras", "none.keras", "there.txt"])
def test_weights_outside_are_refused_whether_they_exist_or_not(name, allowed, tmp_path):
    from engine.models.sources import keras_applications

    (tmp_path / "there.keras").write_bytes(b"no")
    (tmp_path / "there.txt").write_bytes(b"no")
    spec = BackboneSpec(name="GraftSmall", weights=str(tmp_path / name))
    with pytest.raises(BackboneError, match=f"only folders and files below {allowed} for a page"):
        keras_applications.build(spec, 32)
