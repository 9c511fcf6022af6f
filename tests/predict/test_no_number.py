"""Probabilities and distances that are no numbers, where a run or a batch keeps them: an error that
names the file and says what to do, never an answer.

The files are of before Graft noted what it wrote: otherwise the changed file itself is found.
"""

import json
import math
import shutil

import numpy as np
import pytest

from engine import home as homes
from engine.errors import DatasetError, RunError
from engine.predict import batches, calibration, confidence, reference
from engine.runs import files, runs
from tests.support.cli import graft
from tests.support.pages import open_page, said
from tests.support.pictures import encode, picture


@pytest.fixture
def run(own_home, trained_run):
    """A copy of the trained run in a home of its own, of which nobody noted what was written."""
    path = own_home / "runs" / trained_run.id
    shutil.copytree(trained_run.path, path)
    (path / files.MANIFEST).unlink()
    return runs.Run(path)


def spoil(path, name):
    """Makes a number of an array NaN."""
    with np.load(path) as found:
        arrays = dict(found)
    arrays[name] = arrays[name].copy()
    arrays[name].flat[0] = math.nan
    with open(path, "wb") as file:
        np.savez(file, **arrays)


@pytest.mark.parametrize("name", ["probabilities", "features"])
def test_a_reference_with_what_is_no_number_is_damaged(run, name):
    spoil(run.path / reference.FILE, name)
    remedy = f"{reference.FILE} is damaged .its {name} .*python -m engine calibrate {run.id}"
    with pytest.raises(RunError, match=remedy):
        confidence.known(run)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-2", '"near"', "null"])
@pytest.mark.parametrize("name", ["threshold", "usual"])
def test_a_distance_that_is_none_is_damaged(run, own_home, tmp_path, name, value):
    path = run.path / calibration.FILE
    text = json.dumps(homes.read_json(path) | {name: "here"}).replace('"here"', value)
    path.write_text(text)
    (tmp_path / "a.png").write_bytes(encode(picture()))
    done = graft("predict", run.id, tmp_path / "a.png", home=own_home)
    assert done.returncode == 2 and done.stdout == ""
    assert f"{path} is damaged (its {name} is not a distance)" in done.stderr
    assert f"python -m engine calibrate {run.id}" in done.stderr


def test_a_batch_with_what_is_no_probability_shows_no_answer(run, own_home, monkeypatch):
    folder = own_home / "batches" / "0123456789abcdef"
    folder.mkdir(parents=True)
    about = {"run": run.id, "title": "three", "created": run.created, "source": "photos.zip"}
    request = {"kind": "batch", "parameters": {"about": about}, "result": {"stopped": True}}
    homes.write_json(folder / batches.REQUEST, request)
    count = len(run.classes)
    with open(folder / "part-00000.npz", "wb") as file:
        np.savez(
            file,
            names=np.array(["a.png"]),
            labels=np.array([""]),
            errors=np.array([""]),
            seconds=np.zeros(1, np.float32),
            probabilities=np.full((1, count), math.nan, np.float32),
            distances=np.zeros(1, np.float32),
            measures=np.zeros((1, 5), np.float32),
            thumbs=np.zeros((1, 2), np.int64),
        )
    with pytest.raises(DatasetError, match="part-00000.npz .*delete this batch and classify"):
        batches.open_(own_home, folder.name).rows()
    monkeypatch.setenv("GRAFT_HOME", str(own_home))
    app = open_page("test", run=run.id, batch=folder.name)
    assert ["delete this batch" in error.value for error in app.error] == [True]
    assert "nan" not in said(app).lower()
