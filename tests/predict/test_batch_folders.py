"""Folders of a batch: which class each counts as, and what is left out."""

import json
import re
import shutil
from pathlib import Path

import pytest

from engine.data.sources import reading
from engine.predict import batch_worker, batches
from engine.predict import rows as answers
from engine.predict.classifier import Classifier
from tests.support.batches import ended, example_files, zipped
from tests.support.cli import graft
from tests.support.pictures import encode, picture


@pytest.fixture
def photos(trained_run):
    return example_files(trained_run)


def both(place, tree):
    """A folder with files {name: bytes}, and a zip of it."""
    for name, data in tree.items():
        (place / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "tree" / name).write_bytes(data)
    return place / "tree", Path(shutil.make_archive(place / "tree", "zip", place / "tree"))


def told(run, source, *options):
    """What `batch --json` and `evaluate --json` say of a folder or a zip."""
    found = []
    for command in (["batch", run.id, source], ["evaluate", run.id, "--data", source]):
        done = graft(*command, *options, "--json", home=run.path.parents[1])
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    return found


def test_folder_and_zip_batch_and_evaluate_agree(trained_run, photos, tmp_path):
    first, second, third = trained_run.classes[:3]
    names = {first: f"{first.upper()}/monday", second: f"{second}s", third: f"{third}/a/b"}
    files = {}
    for name, data in photos:
        label, own = name.split("/")
        files[f"pictures/{names.get(label, 'meadow')}/{own}"] = data
    files |= {
        "pictures/notes.txt": b"x",
        f"pictures/{third}/@eaDir/small.jpg": photos[0][1],
        f"pictures/{third}/broken.png": b"no picture",
        "pictures/meadow/.hidden.png": photos[0][1],
    }
    folder, packed = both(tmp_path, files)
    batch, own = told(trained_run, folder)
    same, same_own = told(trained_run, packed)
    for row in [*batch["answers"], *same["answers"]]:
        row.pop("seconds")
    assert batch == same and own == same_own
    figures = batch["figures"]
    assert {key: own[key] for key in figures} == figures and own["left_out"] == batch["left_out"]
    assert {row["name"]: (row["label"], row["near"]) for row in figures["folders"]} == {
        first.upper(): (first, ""),
        f"{second}s": ("", second),
        third: (third, ""),
        "meadow": ("", ""),
    }
    of = {name: sum(n.startswith(f"{name}/") for n, _ in photos) for name in (first, third)}
    assert figures["n"] == sum(of.values())
    support = {row["label"]: row["support"] for row in figures["per_class"]}
    assert support == dict.fromkeys(trained_run.classes, 0) | of
    for row in figures["per_class"]:
        assert row["support"] or row["precision"] is row["recall"] is row["f1"] is None
    assert len(batch["left_out"]) == 3 and own["unreadable"][0][0] == f"{third}/broken.png"
    counted, _ = told(trained_run, folder, "--map", f"{second}s={second}")
    assert counted["figures"]["n"] > figures["n"]
    text = graft("evaluate", trained_run.id, "--data", packed, home=trained_run.path.parents[1])
    assert f"{second}s: did you mean {second}? " in text.stderr
    assert re.search(rf"{second} +– +– +– +0", text.stdout)


@pytest.mark.parametrize("packed", [False, True])
def test_the_first_folder_is_the_class_and_links_count(trained_run, photos, tmp_path, packed):
    first, second = trained_run.classes[:2]
    mine = [(name, data) for name, data in photos if name.startswith((first, second))]
    files = {name.replace("/", "/session 1/"): data for name, data in mine}
    folder, archive = both(tmp_path, {f"around/{name}": data for name, data in files.items()})
    if not packed:
        (folder / "around" / second).rename(tmp_path / "elsewhere")
        (folder / "around" / second).symlink_to(tmp_path / "elsewhere")
    with reading.opened(archive if packed else folder, trained_run.classes) as (found, read):
        got = answers.joined(list(batch_worker.parts(Classifier(trained_run), found.images, read)))
    figures = answers.figures(got, trained_run.classes)
    assert figures["n"] == len(mine) and {f["name"] for f in figures["folders"]} == {first, second}


def test_the_class_of_a_folder_is_chosen_and_kept(graft_home, trained_run, photos):
    label = trained_run.classes[0]
    files = [(f"pieces/{name.split('/')[1]}", data) for name, data in photos if label in name]
    batch = batches.start(graft_home, trained_run, zipped([*files, *photos]), "more.zip")
    assert ended(batch)["state"] == "done"
    before = answers.figures(batch.rows(), trained_run.classes, batch.chosen)
    batch.choose("pieces", label)
    again = batches.open_(graft_home, batch.key)
    after = answers.figures(again.rows(), trained_run.classes, again.chosen)
    assert after["n"] == before["n"] + len(files)
    row = answers.table(trained_run, again.rows(), chosen=again.chosen)[-1]
    assert row["folder"] == row["true_class"]
    batch.choose("pieces", "")
    assert answers.figures(again.rows(), trained_run.classes, again.chosen)["n"] == before["n"]
    batch.clear()


def test_hidden_files_of_an_uploaded_folder_are_left_out_as_in_a_zip(graft_home, trained_run):
    data = encode(picture())
    files = [("mine/a.png", data), ("mine/.thumbs/a.png", data), ("mine/@eaDir/b.png", data)]
    batch = batches.start(graft_home, trained_run, files, "a folder")
    assert ended(batch)["state"] == "done"
    assert batch.rows().names.tolist() == ["mine/a.png"] and len(batch.left_out) == 2
    batch.clear()
