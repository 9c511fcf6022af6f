"""Datasets created in Graft: adding, undoing, and splits that never move."""

import io
import json
import sys
import zipfile

import numpy as np
import pytest

from engine.cli import main
from engine.cli.dataset_argument import spec_of
from engine.data import additions, curation, datasets, prepare_worker, splits
from engine.data.sources import collection, uploads
from engine.errors import DatasetError
from engine.recipe import DatasetSpec, SplitSpec
from tests.support import hostile_zips
from tests.support.pictures import encode, picture

SPLITS = (
    SplitSpec(),
    SplitSpec(seed=7),
    SplitSpec(test=30, validation=30, train=40, seed=3),
    SplitSpec(method="source"),
)


def pictures(count, seed=0):
    """Files as an uploader hands them over: (name, bytes)."""
    return [(f"{i}.png", encode(picture(24, 16, seed=seed + i))) for i in range(count)]


def parts_of(dataset, split_spec):
    """{content: part} of every image."""
    parts = dataset.split(split_spec).items()
    return {dataset.contents[i]: part for part, indices in parts for i in indices.tolist()}


def test_old_images_stay_in_their_parts_whatever_is_added(own_home):
    base = DatasetSpec(source="sample", images=60)
    spec = collection.create(own_home, "mine", base)
    begun = prepare_worker.ingest(spec, own_home)
    assert begun.fingerprint == prepare_worker.ingest(base, own_home).fingerprint
    seen = [begun]
    for label, count in ((begun.classes[0], 60), ("owl", 60)):
        added, skipped = additions.add(own_home, "mine", label, pictures(count, 1000 * len(seen)))
        assert (added, skipped) == (count, [])
        assert datasets.outdated(spec, own_home)
        seen.append(prepare_worker.ingest(spec, own_home))
    assert [len(each) for each in seen] == [60, 120, 180]
    assert len({each.fingerprint for each in seen}) == 3
    assert seen[2].classes == (*begun.classes, "owl")
    for split_spec in SPLITS:
        before = {}
        for dataset in seen:
            after = parts_of(dataset, split_spec)
            assert before.items() <= after.items(), split_spec
            new = [part for content, part in after.items() if content not in before]
            if split_spec.method != "source":
                for part in splits.PARTS:
                    share = getattr(split_spec, part) / 100 * len(new)
                    assert abs(new.count(part) - share) <= max(3, 0.1 * len(new)), (part, new)
            before = after
    assert collection.undo(own_home, "mine") == 60
    assert prepare_worker.ingest(spec, own_home).fingerprint == seen[1].fingerprint
    assert collection.undo(own_home, "mine") == 60
    assert prepare_worker.ingest(spec, own_home).fingerprint == begun.fingerprint
    assert collection.undo(own_home, "mine") == 0


def test_a_source_with_parts_keeps_its_test_whatever_is_added_or_moved(own_home, tmp_path):
    for part, count in (("train", 30), ("test", 9)):
        for label in ("cat", "dog"):
            (tmp_path / "pets" / part / label).mkdir(parents=True)
            for name, data in pictures(count, 1000 * count + 100 * (label == "cat")):
                (tmp_path / "pets" / part / label / name).write_bytes(data)
    base = DatasetSpec(source="folder", path=str(tmp_path / "pets"))
    spec = collection.create(own_home, "mine", base)
    auto = SplitSpec()
    begun = prepare_worker.ingest(spec, own_home)
    before = parts_of(begun, auto)
    assert set(begun.contents[begun.source_splits == "test"]) == {
        content for content, part in before.items() if part == "test"
    }
    for label in ("cat", "owl"):
        additions.add(own_home, "mine", label, pictures(40, 7000 + 500 * (label == "owl")))
    after = prepare_worker.ingest(spec, own_home)
    now = parts_of(after, auto)
    assert before.items() <= now.items() and "added here" in after.division(auto)
    new = [part for content, part in now.items() if content not in before]
    assert 4 <= new.count("test") <= 12 and new.count("train") >= 50
    # A person's word counts for more than the source's.
    row = int(np.flatnonzero(after.source_splits == "test")[0])
    made = curation.decisions(after, [row], "move", "validation")
    overlay = curation.decide(own_home, spec, "moved", made)
    moved = datasets.open_dataset(spec.model_copy(update={"overlay": overlay}), own_home)
    changed = {c for c, part in parts_of(moved, auto).items() if now[c] != part}
    assert changed == {after.contents[row]} and row in moved.split(auto)["validation"]


def test_a_base_that_runs_code_from_elsewhere_is_refused_in_one_sentence(own_home):
    spec = collection.create(own_home, "mine", DatasetSpec(source="tfds", name="tf_flowers"))
    path = own_home / "saved" / "mine" / "saved.json"
    path.write_text(path.read_text().replace("tf_flowers", "kaggle:flowers"))
    with pytest.raises(DatasetError, match="its code would be downloaded and run"):
        prepare_worker.ingest(spec, own_home)
    assert "kaggle:flowers" in collection.open_(own_home, "mine").description
    collection.delete(own_home, "mine")
    assert collection.names(own_home) == []


def test_images_of_the_own_are_a_dataset_from_two_classes_on(own_home):
    spec = collection.create(own_home, "pets")
    for count, words in ((0, "none yet"), (1, "only 'cat'")):
        if count:
            additions.add(own_home, "pets", "cat", pictures(12))
        with pytest.raises(DatasetError, match=f"at least two classes.*{words}"):
            prepare_worker.ingest(spec, own_home)
    additions.add(own_home, "pets", " big  dog ", [(n, io.BytesIO(d)) for n, d in pictures(12, 50)])
    dataset = prepare_worker.ingest(spec, own_home)
    assert dataset.classes == ("big dog", "cat") and len(dataset) == 24
    assert dataset.image_bytes(0) == pictures(12)[0][1]
    assert dataset.title == "pets" and "24 images" in dataset.description
    found = collection.open_(own_home, "pets")
    assert [(b.number, b.images, b.classes) for b in found.batches] == [
        (0, 12, {"cat": 12}), (1, 12, {"big dog": 12}),
    ]  # fmt: skip


def test_what_cannot_be_added_is_named_with_its_reason(own_home):
    collection.create(own_home, "pets", DatasetSpec(source="sample", images=60))
    base = prepare_worker.ingest(DatasetSpec(source="sample", images=60), own_home)
    good, again = pictures(2)
    label, there = base.classes[base.labels[0]], base.image_bytes(0)
    files = [
        ("../../etc/passwd\u202e.png", good[1]), ("words.jpg", b"no image"), ("none.png", b""),
        ("copy.png", good[1]), again, ("of the base.png", there),
    ]  # fmt: skip
    progress = []
    added, skipped = additions.add(
        own_home, "pets", label, files, lambda *now: progress.append(now)
    )
    assert added == 2 and progress[-1] == (6, 6)
    assert [name for name, _ in skipped] == [
        "words.jpg", "none.png", "copy.png", "of the base.png",
    ]  # fmt: skip
    assert [why for _, why in skipped][2:] == [f"it is already in {label}"] * 2
    assert additions.add(own_home, "pets", "another class", [good])[0] == 1
    rows = collection.open_(own_home, "pets").rows()
    assert rows[0]["name"] == "passwd\\u202e.png"  # shown, and never a path
    folder = own_home / "saved" / "pets"
    assert {p.name for p in folder.rglob("*") if p.is_file()} == {
        "saved.json", "added.jsonl", *(row["file"] for row in rows),
    }  # fmt: skip


def test_an_image_that_the_base_holds_by_now_counts_once(own_home, class_folder):
    spec = collection.create(own_home, "mine", DatasetSpec(source="folder", path=str(class_folder)))
    data = encode(picture(seed=5))
    additions.add(own_home, "mine", "red", [("mine.png", data)])  # the base is not prepared yet
    (class_folder / "red" / "the same.png").write_bytes(data)
    dataset = prepare_worker.ingest(spec, own_home)
    assert len(dataset) == 37 and dataset.skipped == [("red/mine.png", "pets has a copy of it")]
    (class_folder / "blue" / "new.png").write_bytes(encode(picture(seed=6)))
    assert datasets.outdated(spec, own_home)  # what it begins with has changed
    assert len(prepare_worker.ingest(spec, own_home)) == 38


def test_a_zip_of_class_folders_is_one_batch(tmp_path, own_home):
    collection.create(own_home, "mine")
    path = hostile_zips.good(tmp_path / "a.zip", "photos/")
    hostile_zips.odd_files(tmp_path / "b.zip")
    added, skipped = additions.add_zip(own_home, "mine", path)
    assert (added, skipped) == (12, [])
    added, skipped = additions.add_zip(own_home, "mine", tmp_path / "b.zip")
    assert added == 0 and len(skipped) == 18  # twelve are there already
    one = hostile_zips.good(tmp_path / "c.zip", classes=("owl",))
    assert additions.add_zip(own_home, "mine", one) == (4, [])  # a single class is enough here
    hostile_zips.bomb_that_lies(tmp_path / "d.zip")
    before = {p for p in (own_home / "saved").rglob("*")}
    with pytest.raises(DatasetError, match="unpacks to more"):
        additions.add_zip(own_home, "mine", tmp_path / "d.zip")
    assert {p for p in (own_home / "saved").rglob("*")} == before
    assert len(collection.open_(own_home, "mine").batches) == 2


@pytest.mark.parametrize(
    "label", ["", "  ", "a/b", "a\\b", "..", ".x", "a\x00", "\u202ea", "x" * 81]
)
def test_a_class_that_cannot_be_shown_is_refused(label, own_home):
    collection.create(own_home, "pets")
    with pytest.raises(DatasetError, match="cannot be the name of a class"):
        additions.add(own_home, "pets", label, pictures(1))
    assert not collection.open_(own_home, "pets").rows()


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b", ".x", "x" * 61, "sample"])
def test_a_name_that_is_no_name_is_refused(name, own_home):
    with pytest.raises(DatasetError, match="name"):
        collection.create(own_home, name)
    assert not collection.names(own_home)


def test_a_line_that_was_broken_off_is_left_out_and_mended(own_home):
    collection.create(own_home, "pets")
    additions.add(own_home, "pets", "cat", pictures(3))
    log = own_home / "saved" / "pets" / "added.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + whole.splitlines()[0][:40])
    assert len(collection.open_(own_home, "pets").rows()) == 3
    additions.add(own_home, "pets", "dog", pictures(3, 10))
    assert len(collection.open_(own_home, "pets").rows()) == 6
    assert collection.undo(own_home, "pets") == 3 and log.read_bytes() == whole
    assert len(list((own_home / "saved" / "pets" / "images").iterdir())) == 3


def test_a_damaged_line_is_named(own_home):
    collection.create(own_home, "pets")
    additions.add(own_home, "pets", "cat", pictures(3))
    log = own_home / "saved" / "pets" / "added.jsonl"
    lines = log.read_text().splitlines()
    row = json.loads(lines[1]) | {"file": "../../../runs/secret.png"}
    log.write_text("\n".join([lines[0], json.dumps(row), lines[2]]) + "\n")
    with pytest.raises(DatasetError, match="line 2 .* is damaged"):
        collection.open_(own_home, "pets")


def test_an_addition_that_fails_adds_nothing(own_home):
    collection.create(own_home, "pets")
    additions.add(own_home, "pets", "cat", pictures(2))

    def files():
        yield pictures(1, 20)[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(DatasetError, match="No space left"):
        additions.add(own_home, "pets", "cat", files())
    assert len(collection.open_(own_home, "pets").rows()) == 2
    assert len(list((own_home / "saved" / "pets" / "images").iterdir())) == 2


def test_deleting_and_naming(own_home):
    collection.create(own_home, "first")
    second = collection.create(own_home, "second", DatasetSpec(source="saved", name="first"))
    assert collection.names(own_home) == ["first", "second"]
    with pytest.raises(DatasetError, match="already"):
        collection.create(own_home, "first")
    with pytest.raises(DatasetError, match="delete second first"):
        collection.delete(own_home, "first")
    additions.add(own_home, "first", "cat", pictures(6))
    additions.add(own_home, "first", "dog", pictures(6, 10))
    additions.add(own_home, "second", "owl", pictures(6, 20))
    dataset = prepare_worker.ingest(second, own_home)
    assert dataset.classes == ("cat", "dog", "owl")
    assert np.bincount(dataset.generations).tolist() == [6, 6, 6]
    collection.delete(own_home, "second")
    collection.delete(own_home, "first")
    assert not collection.names(own_home)
    with pytest.raises(DatasetError, match="there is none yet"):
        collection.open_(own_home, "first")
    with pytest.raises(DatasetError, match="first"):
        datasets.listing(DatasetSpec(source="saved", name="first"), own_home)


def test_what_a_person_types_is_a_dataset(own_home, class_folder, tmp_path, monkeypatch):
    collection.create(own_home, "my-pets")
    path = hostile_zips.good(tmp_path / "some.zip")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beans").mkdir()
    expected = {
        "sample": DatasetSpec(source="sample"),
        "my-pets": DatasetSpec(source="saved", name="my-pets"),
        "tf_flowers": DatasetSpec(source="tfds", name="tf_flowers"),
        "imagenette/160px-v2": DatasetSpec(source="tfds", name="imagenette/160px-v2"),
        "pets": DatasetSpec(source="folder", path=str(class_folder)),
        "./pets/": DatasetSpec(source="folder", path=str(class_folder)),
        "beans": DatasetSpec(source="folder", path=str(tmp_path / "beans")),  # what is there wins
        "some.zip": DatasetSpec(source="zip", path=str(path)),
        str(path): DatasetSpec(source="zip", path=str(path)),
    }
    assert {text: spec_of(text, own_home) for text in expected} == expected
    for text in ("", "./nothing", "nothing.zip", "a/b/c", "No Such", "~nobody-here/x", "x" * 5000):
        with pytest.raises(DatasetError, match="no dataset"):
            spec_of(text, own_home)


def test_a_home_that_cannot_be_written_gets_a_sentence(own_home):
    (own_home / "saved").write_text("a file where the folder should be")
    with pytest.raises(DatasetError, match="could not be written"):
        collection.create(own_home, "pets")


@pytest.fixture
def graft(own_home, monkeypatch, capsys):
    """Runs a command of the command line: (exit code, standard output, standard error)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["engine", *map(str, arguments), "--home", str(own_home)])
        try:
            code = main.main()
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    return run


def test_the_command_line_adds_and_takes_back(graft, tmp_path, class_folder):
    files = sorted((class_folder / "red").iterdir())
    code, out, _ = graft("add", "mine", *files, "--label", "red", "--base", "sample", "--json")
    said = json.loads(out)
    assert code == 0 and said["added"] == 12 and said["base"]["source"] == "sample"
    path = hostile_zips.good(tmp_path / "a.zip")
    code, out, _ = graft("add", "mine", "--zip", path, "--json")
    assert code == 0 and [b["images"] for b in json.loads(out)["batches"]] == [12, 12]
    code, out, said = graft("add", "mine", files[0], tmp_path / "none.png", "--label", "red")
    assert code == 2 and "already in red" in said and "No such file" in said
    assert "Extends sample; 24 images added in 2 batches" in out
    code, out, said = graft("add", "mine", "--undo")
    assert code == 0 and "Removed 12 images" in said
    listed = json.loads(graft("datasets", "--json")[1])
    assert [each["name"] for each in listed["saved"]] == ["mine"]
    assert {"name", "licence", "download_mib", "url"} <= set(listed["catalogue"][0])
    code, out, _ = graft("datasets")
    assert code == 0 and "mine" in out and "not stated" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--label", "cat"], "no files were given"),
        (["x.png"], "--label"),
        (["--undo", "--label", "cat", "x.png"], "nothing else"),
        (["--undo"], "there is none yet"),
        (["--zip", "/nowhere.zip"], "there is no zip file"),
        (["x.png", "--label", "a/b"], "cannot be the name of a class"),
        (["--base", "no/such/thing"], "is no dataset"),
    ],
)
def test_a_command_that_cannot_be_done_gets_a_sentence_and_makes_nothing(
    arguments, words, graft, own_home
):
    code, out, said = graft("add", "mine", *arguments)
    assert code == 2 and said.startswith("error: ") and words in said and not out
    assert not collection.names(own_home)


def test_a_zip_that_is_added_leaves_the_same_upload_of_another_dataset_alone(
    tmp_path, own_home, class_folder
):
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as file:
        for image in sorted(class_folder.rglob("*.jpg")):
            file.write(image, image.relative_to(class_folder).as_posix())
    with open(path, "rb") as file:
        kept = uploads.keep_upload(own_home, "photos.zip", file)
    collection.create(own_home, "more")
    with open(path, "rb") as file, uploads.passing_upload(own_home, file) as copy:
        assert len(additions.add_zip(own_home, "more", copy)[1]) == 0
    assert kept.exists() and not copy.exists()
    assert [p for p in (own_home / "uploads").iterdir() if p.is_file()] == []


def test_a_second_click_takes_no_second_addition_back(own_home, class_folder):
    collection.create(own_home, "mine")
    for label in ("red", "green", "blue"):
        files = [(p.name, p.read_bytes()) for p in sorted((class_folder / label).iterdir())]
        additions.add(own_home, "mine", label, files)
    assert collection.undo(own_home, "mine", 2) == 12 and collection.undo(own_home, "mine", 2) == 0
    assert len(collection.open_(own_home, "mine").batches) == 2
