"""Zips: a good one gives the same dataset as its folder; a hostile or broken one is explained."""

import io
import os
import re
import shutil
import threading
import zipfile

import numpy as np
import pytest

from engine.data import datasets, prepare_worker
from engine.data.sources import archive, uploads
from engine.errors import DatasetError, ImageError
from engine.recipe import DatasetSpec
from tests.support import hostile_zips
from tests.support.pictures import encode, picture


def spec_of(path):
    return DatasetSpec(source="zip", path=str(path))


def zip_folder(folder, path, prefix=""):
    """A zip of a folder's files, packed in no particular order."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for number in np.random.default_rng(0).permutation(len(files)):
            file.write(files[number], prefix + str(files[number].relative_to(folder)))
    return path


def tree(folder, but=()):
    """All paths below a folder with their sizes, without some folders."""
    return {
        (str(p.relative_to(folder)), p.lstat().st_size if p.is_file() else 0)
        for p in folder.rglob("*")
        if not any(p.is_relative_to(other) for other in but)
    }


def photos(folder, count):
    """Class folders of small pictures."""
    for i in range(count):
        path = folder / ("cat", "dog", "fox")[i % 3] / f"{i:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(24, 16, seed=i).save(path)


def test_a_zip_of_600_images_is_the_dataset_that_its_folder_is(tmp_path, own_home):
    photos(tmp_path / "pets", 600)
    path = zip_folder(tmp_path / "pets", tmp_path / "pets.zip", prefix="home/me/2024/pets/")
    dataset = prepare_worker.ingest(spec_of(path), own_home)
    folder = prepare_worker.ingest(
        DatasetSpec(source="folder", path=str(tmp_path / "pets")), own_home
    )
    assert len(dataset) == 600 and dataset.fingerprint == folder.fingerprint
    assert dataset.names == folder.names and dataset.classes == ("cat", "dog", "fox")
    shutil.rmtree(tmp_path / "pets")
    path.unlink()
    assert dataset.image_bytes(7)[:2] == b"\xff\xd8"  # its bytes are Graft's own by now


def test_a_zip_with_parts_keeps_them(tmp_path, own_home):
    for part in ("train", "val", "Test"):
        photos(tmp_path / "pets" / part, 12)
    path = zip_folder(tmp_path / "pets", tmp_path / "pets.zip", prefix="pets/")
    dataset = prepare_worker.ingest(spec_of(path), own_home)
    folder = prepare_worker.ingest(
        DatasetSpec(source="folder", path=str(tmp_path / "pets")), own_home
    )
    assert set(dataset.source_splits.tolist()) == {"train", "val", "test"}
    assert dataset.source_splits.tolist() == folder.source_splits.tolist()
    assert dataset.classes == ("cat", "dog", "fox")
    assert dataset.fingerprint == folder.fingerprint


@pytest.mark.parametrize(
    ("prefix", "part"),
    [("", "train"), ("./", "train"), ("a/b/c/d/", "train"), ("test/", "test"), ("a/val/b/", "val")],
)
def test_folders_that_all_images_share_are_left_out(prefix, part, tmp_path):
    with archive.Archive(hostile_zips.good(tmp_path / "a.zip", prefix)) as found:
        assert {e.label for e in found.entries} == {"red", "green", "blue"}
        assert {e.part for e in found.entries} == {part}
        assert found.entries[0].name == "blue/000.png" and not found.skipped


def test_names_that_packers_wrote_without_saying_how_are_read(tmp_path):
    path = hostile_zips.good(tmp_path / "a.zip", classes=("Loewenzahn", "red"))
    data = path.read_bytes().replace(b"Loewenzahn", "Löwenzaun".encode())
    path.write_bytes(data)
    with archive.Archive(path) as found:
        assert {e.label for e in found.entries} == {"Löwenzaun", "red"}
        assert found.read(found.entries[0]).startswith(b"\x89PNG")


@pytest.mark.parametrize("make", hostile_zips.REFUSED, ids=lambda make: make.__name__)
def test_a_zip_that_cannot_be_used_gets_one_sentence_and_leaves_nothing(make, tmp_path, own_home):
    path = tmp_path / "some.zip"
    make(path)
    before = tree(tmp_path, but=[own_home / "datasets"])
    with pytest.raises(DatasetError) as caught:
        prepare_worker.ingest(spec_of(path), own_home)
    said = str(caught.value)
    assert said.startswith("some") and "\n" not in said and not re.search(r"[.!] ", said)
    assert not [p for p in (own_home / "datasets").iterdir() if p.is_dir()]
    assert tree(tmp_path, but=[own_home / "datasets"]) == before
    assert datasets.state(spec_of(path), own_home)["state"] == "missing"


@pytest.mark.parametrize("make", hostile_zips.USED, ids=lambda make: make.__name__)
def test_what_is_good_is_used_and_the_rest_named_with_a_reason(make, tmp_path, own_home):
    path = tmp_path / "some.zip"
    make(path)
    before = tree(tmp_path, but=[own_home / "datasets"])
    dataset = prepare_worker.ingest(spec_of(path), own_home)
    good = [name for name in dataset.names if re.fullmatch(r"(red|green|blue)/00\d\.png", name)]
    assert len(good) == 12 and set(dataset.classes) >= {"red", "green", "blue"}
    assert tree(tmp_path, but=[own_home / "datasets"]) == before
    folder = own_home / "datasets" / datasets.key(spec_of(path))
    written = {"images.bin", "index.npz", "manifest.json", "copies.npz", "sums.json"}
    assert {p.name for p in folder.iterdir()} == written
    left_out = dataset.skipped + dataset.unreadable
    assert all(why and name.isprintable() for name, why in left_out)
    expected = {
        "outside": ["out of the zip's folder"] * 2 + ["root of a disk"] * 2 + ["backslash", "link"],
        "unreadable_names": ["cannot be seen"] * 3 + ["longer"],
        "odd_files": [
            "hidden",
            "hidden",
            "not read",
            "same name",
            "packed itself",
            "not in a class",
        ],
        "damaged_members": ["ends too early", "damaged in the zip (Bad"],
    }[make.__name__]
    assert len(left_out) == len(expected)
    for words in expected:
        assert sum(words in why for _, why in left_out) == expected.count(words)
    if make is hostile_zips.unreadable_names:
        assert {"Löwenzahn", "فراشة"} <= set(dataset.classes)


def test_every_cut_and_every_turned_byte_gets_a_sentence_or_a_dataset(tmp_path):
    whole = hostile_zips.good(tmp_path / "good.zip", count=2).read_bytes()
    path, random = tmp_path / "a.zip", np.random.default_rng(1)
    outcomes = set()
    for trial in range(400):
        data = bytearray(whole)
        if trial % 4 == 0:
            data = data[: random.integers(len(data))]
        else:
            for place in random.integers(0, len(data), 1 + trial % 3):
                data[place] = random.integers(256)
        path.write_bytes(data)
        try:
            with archive.Archive(path) as found:
                for entry in found.entries:
                    try:
                        assert len(found.read(entry)) == entry.size
                        outcomes.add("read")
                    except ImageError:
                        outcomes.add("damaged")
        except DatasetError:
            outcomes.add("refused")
    assert outcomes == {"read", "damaged", "refused"}


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        ("MAX_MEMBERS", 11, "holds 12 files"),
        ("MAX_DIRECTORY", 500, "far more files than"),
        ("MAX_TOTAL", 700, "unpacks to"),
    ],
)
def test_limits_are_kept(limit, value, words, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, limit, value)
    with pytest.raises(DatasetError, match=words):
        archive.check(hostile_zips.good(tmp_path / "a.zip"))


def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path, own_home, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=500)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DatasetError, match="only 0.0 MB are free"):
        prepare_worker.ingest(spec_of(hostile_zips.good(tmp_path / "a.zip")), own_home)
    assert not [p for p in (own_home / "datasets").iterdir() if p.is_dir()]


@pytest.mark.parametrize("what", ["nothing", "a folder", "a pipe"])
def test_a_path_that_is_no_file_gets_a_sentence(what, tmp_path, own_home):
    path = tmp_path / "some.zip"
    if what == "a folder":
        path.mkdir()
    elif what == "a pipe":
        os.mkfifo(path)
    with pytest.raises(DatasetError, match="zip file"):
        prepare_worker.ingest(spec_of(path), own_home)


def test_members_are_read_from_many_threads_at_once(tmp_path):
    with archive.Archive(hostile_zips.good(tmp_path / "a.zip", count=50)) as found:
        alone, wrong = [found.read(e) for e in found.entries], []

        def read():
            if [found.read(e) for e in found.entries] != alone:
                wrong.append(1)

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_a_zip_that_is_written_again_is_prepared_again(tmp_path, own_home):
    path = hostile_zips.good(tmp_path / "a.zip")
    prepare_worker.ingest(spec_of(path), own_home)
    assert not datasets.outdated(spec_of(path), own_home)
    hostile_zips.good(path, classes=("red", "green"))
    assert datasets.outdated(spec_of(path), own_home)
    assert prepare_worker.ingest(spec_of(path), own_home).classes == ("green", "red")


def test_an_upload_is_kept_once_under_a_name_of_ours(tmp_path, own_home):
    data = hostile_zips.good(tmp_path / "a.zip").read_bytes()
    seen = []
    first = uploads.keep_upload(
        own_home, "../../evil näme\u202e.zip", io.BytesIO(data), lambda *now: seen.append(now)
    )
    assert first.parent.parent == own_home / "uploads" and first.read_bytes() == data
    assert re.fullmatch(r"[\w-]+\.zip", first.name) and seen[-1][0] == len(data)
    assert uploads.keep_upload(own_home, "other.zip", io.BytesIO(data)) == first
    assert prepare_worker.ingest(spec_of(first), own_home).classes == ("blue", "green", "red")
    uploads.forget_upload(own_home, first)
    assert not list((own_home / "uploads").iterdir())


def test_an_upload_that_cannot_be_used_leaves_nothing(tmp_path, own_home):
    class Broken(io.BytesIO):
        def read(self, size):
            raise OSError(28, "No space left on device")

    for file in (Broken(b"x"), io.BytesIO(b"no zip"), io.BytesIO(b"")):
        with pytest.raises(DatasetError, match="some.zip|could not be kept"):
            uploads.keep_upload(own_home, "some.zip", file)
        assert not list((own_home / "uploads").iterdir())


def test_only_uploads_are_forgotten(tmp_path, own_home):
    mine = hostile_zips.good(tmp_path / "mine.zip")
    for path in (mine, own_home / "uploads" / ".." / "datasets" / "x", own_home / "uploads" / "x"):
        with pytest.raises(DatasetError, match="not an upload"):
            uploads.forget_upload(own_home, path)
    assert mine.exists() and (own_home / "datasets").exists()


def test_images_of_other_formats_in_a_zip_are_read(tmp_path, own_home):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        for i, format in enumerate(("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF")):
            name = f"{'ab'[i % 2]}/{i}.{format.lower()}"
            file.writestr(name, encode(picture(seed=i), format))
    dataset = prepare_worker.ingest(spec_of(path), own_home)
    assert sorted(dataset.formats) == ["AVIF", "BMP", "GIF", "JPEG", "PNG", "WEBP"]
