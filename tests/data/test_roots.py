"""What pages may read of the host: folders, zips, links, and what processes that they start do."""

import io
import os
import zipfile
from pathlib import Path

import pytest

from engine import home as homes
from engine import load_preset, roots
from engine.data import additions, datasets
from engine.data.sources import archive, collection, folders, reading, uploads
from engine.errors import GraftError
from engine.imports import imports
from engine.jobs import jobs
from engine.recipe import DatasetSpec, paths
from engine.runs import runs
from tests.support.pictures import encode, picture

CLASSES = ("cat", "dog")


def images(folder):
    """A folder of two classes."""
    for number, label in enumerate(CLASSES):
        (folder / label).mkdir(parents=True)
        for i in range(3):
            (folder / label / f"{i}.png").write_bytes(encode(picture(seed=10 * number + i)))
    return folder


def zipped(path):
    """A zip of two classes."""
    with zipfile.ZipFile(path, "w") as file:
        for number, label in enumerate(CLASSES):
            for i in range(3):
                file.writestr(f"{label}/{i}.png", encode(picture(seed=10 * number + i)))
    return path


@pytest.fixture
def outside(tmp_path):
    """Folder and zip that pages may not read."""
    images(tmp_path / "outside" / "pets")
    zipped(tmp_path / "outside" / "pets.zip")
    return tmp_path / "outside"


def specs(path):
    return [DatasetSpec(source=source, path=str(path)) for source in ("folder", "zip")]


def said(act, *arguments):
    """The sentence of the error that an act raises."""
    with pytest.raises(GraftError) as raised:
        act(*arguments)
    return str(raised.value)


def opened(path):
    with reading.opened(path):
        pass


def started(home, path, weights=None):
    jobs.start(on(path, str(weights or "builtin")), home)


def on(path, weights="builtin"):
    """A recipe on a folder."""
    sets = ["dataset.source=folder", f"dataset.path={path}", f"backbone.weights={weights}"]
    return load_preset("sample", sets)


def every_way(home, path):
    """What each way to read a folder or a zip says."""
    found = []
    for spec in specs(path):
        found += [said(act, spec, home) for act in (datasets.prepare, datasets.open_dataset)]
        found += [said(act, spec, home) for act in (datasets.outdated, datasets.listing)]
        found += [said(datasets.check, spec), said(datasets.key, spec)]
        found.append(datasets.state(spec, home)["error"])
    for act in (folders.check, folders.root, folders.look, folders.list_folder, opened):
        found.append(said(act, path))
    found += [said(act, path) for act in (archive.Archive, archive.check, archive.listing)]
    found += [said(imports.add, path, home), said(additions.add_zip, home, "pets", path)]
    return [*found, said(started, home, path), said(started, home, "allowed", path)]


def test_what_exists_outside_and_what_does_not_are_told_apart_by_nothing(
    allowed, outside, own_home, monkeypatch
):
    monkeypatch.chdir(allowed.parent)
    there = every_way(own_home, outside / "pets") + every_way(own_home, outside / "pets.zip")
    missing = every_way(own_home, outside / "none") + every_way(own_home, outside / "none.zip")
    odd = [p for path in ("/", "/etc/passwd", "~root/x", "~nobody-here/x", "..", "a\0b")
           for p in every_way(own_home, path)]  # fmt: skip
    assert {*there, *missing, *odd} == {
        f"Graft may read only folders and files below {allowed} for a page; move the data there, "
        "or change the setting allowed_roots with python -m engine settings"
    }
    assert runs.list_runs(own_home) == []


def test_what_lies_inside_is_read(allowed, own_home):
    spec, packed = specs(images(allowed / "pets"))[0], specs(zipped(allowed / "pets.zip"))[1]
    for each in (spec, packed):
        datasets.prepare(each, own_home)
        datasets.job(each, own_home).wait()
        assert len(datasets.open_dataset(each, own_home)) == 6


def test_a_link_inside_that_leads_outside_is_outside(allowed, outside, own_home):
    (allowed / "pets").symlink_to(outside / "pets")
    (allowed / "pets.zip").symlink_to(outside / "pets.zip")
    (allowed / "none").symlink_to(outside / "none")
    for name in ("pets", "pets.zip", "none"):
        assert len(set(every_way(own_home, allowed / name))) == 1
    (allowed / "own").mkdir()
    (allowed / "own" / "up").symlink_to("..")
    images(allowed / "own" / "pets")
    assert len(folders.look(allowed / "own" / "up" / "own" / "pets").images) == 6


def test_a_folder_around_the_home_does_not_open_it(own_home, tmp_path):
    theirs = images(own_home / homes.GUESTS / "a-run")
    images(own_home / "data" / "pets")
    images(tmp_path / "pets")
    below = [str(tmp_path), str(own_home / "data")]
    roots.restore({"home": str(own_home), "below": below})
    try:
        assert "only folders and files below" in said(folders.check, theirs)
        assert "only folders and files below" in said(folders.check, own_home)
        assert len(folders.look(own_home / "data" / "pets").images) == 6
        found = folders.look(tmp_path)
        assert {image.name.split("/")[-2] for image in found.images} == set(CLASSES)
        assert not any(homes.GUESTS in image.name for image in found.images)
        assert found.left_out[folders.OWN] == [f"{own_home.name}/"]
    finally:
        roots.restore(None)


def test_links_in_a_folder_are_left_out_where_they_lead_outside(allowed, outside, own_home):
    top = images(allowed / "pets")
    (top / "cat" / "inside.png").symlink_to(top / "cat" / "0.png")
    for name, target in {"there.png": "pets/cat/0.png", "gone.png": "none.png"}.items():
        (top / "cat" / name).symlink_to(outside / target)
    (top / "bird").symlink_to(outside / "pets")
    (top / "fish").symlink_to(outside / "none")
    found = folders.look(top)
    assert {image.name for image in found.images if "inside" in image.name} == {"cat/inside.png"}
    assert sorted(found.left_out[roots.OUTSIDE]) == [
        "bird", "cat/gone.png", "cat/there.png", "fish",
    ]  # fmt: skip
    # The process that prepares it has the same limits.
    spec = specs(top)[0]
    datasets.prepare(spec, own_home)
    datasets.job(spec, own_home).wait()
    made = datasets.open_dataset(spec, own_home)
    assert len(made) == 7 and made.classes == CLASSES
    assert made.left_out == {roots.OUTSIDE: 4}
    assert not datasets.outdated(spec, own_home)
    roots.restore(None)  # at a shell
    assert len(folders.look(top).images) == 7 + 1 + 6  # there.png, and what is in bird


def test_a_dataset_built_on_one_outside_is_not_prepared(allowed, outside, own_home):
    roots.restore(None)
    made = collection.create(own_home, "mine", specs(outside / "pets")[0])
    roots.restore({"home": str(own_home), "below": [str(allowed)]})
    assert "Graft may read only" in said(datasets.prepare, made, own_home)


def test_what_was_prepared_at_a_shell_is_not_shown_on_pages(allowed, outside, own_home):
    roots.restore(None)
    spec = specs(outside / "pets")[0]
    datasets.prepare(spec, own_home)
    datasets.job(spec, own_home).wait()
    roots.restore({"home": str(own_home), "below": [str(allowed)]})
    assert datasets.state(spec, own_home)["state"] == "failed"
    assert "Graft may read only" in said(datasets.open_dataset, spec, own_home)


def test_an_upload_is_read_though_its_folder_is_not(allowed, own_home):
    data = io.BytesIO(zipped(allowed / "pets.zip").read_bytes())
    kept = uploads.keep_upload(own_home, "pets.zip", data)
    archive.check(kept)
    with uploads.passing_upload(own_home, data) as passing:
        archive.check(passing)
    for folder in (kept.parent, kept.parent.parent, own_home, own_home / "batches"):
        assert "Graft may read only" in said(folders.check, folder)
    assert "Graft may read only" in said(archive.check, kept.with_name("other.zip"))


def test_a_run_keeps_the_limits_of_the_page_that_started_it(allowed, outside, own_home):
    recipe = load_preset("sample")
    mine = runs.create(recipe, own_home)
    roots.restore(None)
    theirs = runs.create(recipe, own_home)
    assert mine.state["reads"] == {"home": str(own_home), "below": [str(allowed)]}
    assert theirs.state["reads"] is None


def test_a_run_of_a_shell_is_not_resumed_from_a_page(allowed, outside, own_home):
    roots.restore(None)
    run = runs.create(on(outside / "pets"), own_home)
    run.update(status="paused")
    roots.restore({"home": str(own_home), "below": [str(allowed)]})
    assert "Graft may read only" in said(jobs.resume, run)
    assert "Graft may read only" in said(jobs.restart_smaller, run, 8)
    assert run.status == "paused"


def test_a_changed_setting_counts_at_once(outside, own_home):
    below = []
    roots.restrict(lambda: {"home": str(own_home), "below": below})
    try:
        assert said(folders.check, outside).startswith("Graft may read no folder of this host")
        below.append(str(outside))
        folders.check(outside)
    finally:
        roots.restore(None)


def test_a_pasted_path_does_not_tell_whether_it_exists(allowed, tmp_path):
    odd = tmp_path / "odd "
    odd.mkdir()
    assert paths.given(f"{odd}") == paths.given(f"{tmp_path}/odd  ") == str(tmp_path / "odd")
    inside = allowed / "odd "
    inside.mkdir()
    assert paths.given(str(inside)) == str(inside)


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc", "x/..", "x/../y", "x/.", "https://evil.example/x", "gs://b/x", "x:../y",
     "kaggle:x", "huggingface:x/y", "hf:x", "x/y/z", "x//y", "x:1.0.0/../y", "X"],
)  # fmt: skip
def test_a_name_of_a_public_dataset_is_no_path_and_no_address(name):
    with pytest.raises(ValueError):
        DatasetSpec(source="tfds", name=name)


@pytest.mark.parametrize("name", ["mnist", "tf_flowers:3.0.1", "imagenet_v2/top-images:3.*.*"])
def test_configurations_and_versions_are_names(name):
    assert DatasetSpec(source="tfds", name=name).name == name


def test_the_folder_of_a_process_does_not_matter(allowed, outside, monkeypatch):
    monkeypatch.chdir(outside)
    assert "Graft may read only" in said(folders.check, "pets")
    images(allowed / "pets")
    folders.check(os.path.relpath(allowed / "pets"))
    folders.check(Path("..") / allowed.name / "pets")
