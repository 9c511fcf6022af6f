"""One walk for folders and zips: nothing vanishes, nothing is learnt that is no class."""

import json
import os
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.data import prepare_worker
from engine.data.sources import archive, code_pages, folders, tree
from engine.errors import GraftError
from engine.recipe import DatasetSpec
from tests.support.pictures import encode, picture

PNG = encode(picture(8, 8))


def write(root: Path, *names: str) -> Path:
    """Files below a folder: images, unless their ending says otherwise."""
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"words" if name.endswith((".txt", ".json", ".db")) else PNG)
    return root


def pack(root: Path, path: Path) -> Path:
    """All files of a folder as a zip."""
    with zipfile.ZipFile(path, "w") as packed:
        for folder, _, names in os.walk(root):
            for name in names:
                packed.write(os.path.join(folder, name), os.path.relpath(f"{folder}/{name}", root))
    return path


def ingest(path: Path, home: Path, source="folder"):
    return prepare_worker.ingest(DatasetSpec(source=source, path=str(path)), home)


def with_raw_names(path: Path, names: list[bytes], extra: bytes = b"") -> Path:
    """A zip whose members have names of these bytes, in no declared encoding."""
    plain = [f"x{i:05d}".ljust(len(name), "y").encode() for i, name in enumerate(names)]
    with zipfile.ZipFile(path, "w") as packed:
        for i, name in enumerate(plain):
            info = zipfile.ZipInfo(name.decode())
            info.extra = extra
            packed.writestr(info, encode(picture(8, 8, seed=i)))
    data = path.read_bytes()
    for old, new in zip(plain, names, strict=True):
        data = data.replace(old, new)
    path.write_bytes(data)
    return path


# -- links ----------------------------------------------------------------------------------------


def test_links_are_followed_once(tmp_path, own_home):
    root = write(tmp_path / "pets", "cat/1.png", "dog/2.png")
    write(tmp_path / "elsewhere", "a.png", "deep/b.png")
    os.symlink(tmp_path / "elsewhere", root / "bird")
    os.symlink(root / "dog", root / "again")  # before "dog" in the alphabet
    os.symlink(root, root / "cat" / "circle")
    os.symlink(tmp_path, root / "around")
    os.symlink("/nowhere", root / "cat" / "gone.png")
    os.symlink(tmp_path / "elsewhere" / "a.png", root / "cat" / "linked.png")
    dataset = ingest(root, own_home)
    assert dataset.classes == ("bird", "cat", "dog")
    assert dataset.names == ["bird/a.png", "bird/deep/b.png", "cat/1.png", "cat/linked.png",
                             "dog/2.png"]  # fmt: skip
    assert all(dataset.image_bytes(i) == PNG for i in range(5)) and not len(dataset.gone())
    assert dict(dataset.skipped) == {
        "again/": "it is a link to a folder that is read already",
        "cat/circle/": "it is a link to a folder that is read already",
        "around/": "it is a link to a folder around this one",
        "cat/gone.png": "it is a link to nothing",
    }


def test_a_data_folder_of_links_alone_is_read(tmp_path, own_home):
    store = write(tmp_path / ".store", "1/x.png", "2/y.png")
    root = tmp_path / "pets"
    root.mkdir()
    os.symlink(store / "1", root / "cat")
    os.symlink(store / "2", root / "dog")
    assert ingest(root, own_home).classes == ("cat", "dog")


def as_a_user(ask):
    """What `ask` returns (as JSON) in a process of a user who is not root."""
    if os.geteuid():
        return ask()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.setgid(65534)
        os.setuid(65534)
        os.write(writing, json.dumps(ask()).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        found = answer.read()
    os.waitpid(child, 0)
    return json.loads(found)


def test_a_folder_without_permission_is_named():
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        root = write(Path(place) / "pets", "cat/1.png", "dog/2.png", "bird/3.png")
        os.chmod(root / "bird", 0)
        found = as_a_user(lambda: folders.look(root).left_out)
        os.chmod(root / "bird", 0o700)
    assert found == {"the folder cannot be opened (Permission denied)": ["bird/"]}


def test_images_beside_the_folders_around_all_keep_their_names(tmp_path):
    names = ["a.png", "pets/b.png", "pets/v1/cat/1.png", "pets/v1/cat/2.png", "pets/v1/dog/3.png"]
    root = write(tmp_path / "data", *names)
    with archive.Archive(pack(root, tmp_path / "data.zip"), 0) as opened:
        for found in (opened.tree, folders.look(root, loose=True)):
            assert {image.name: image.label for image in found.images} == {
                "a.png": "", "b.png": "", "cat/1.png": "cat", "cat/2.png": "cat",
                "dog/3.png": "dog",
            }  # fmt: skip
            assert found.above == "pets/v1/"


def test_images_of_known_classes_are_found_below_folders_that_repeat(tmp_path):
    root = write(tmp_path / "data", "monday/images/cat/1.png", "tuesday/images/dog/2.png")
    found = folders.look(root, known=("cat", "dog"), loose=True)
    assert [image.label for image in found.images] == ["cat", "dog"]


@pytest.mark.parametrize("around", [("",), ("monday/", "tuesday/")])
def test_images_of_known_classes_are_found_in_other_spellings(around, tmp_path):
    names = [f"{above}Maine Coon/s{i}/{i}.png" for above in around for i in range(2)]
    found = folders.look(write(tmp_path / "data", *names), known=("maine_coon", "dog"), loose=True)
    assert {image.label for image in found.images} == {"Maine Coon"}


def test_a_folder_whose_path_is_too_long_is_named(tmp_path, monkeypatch):
    root = write(tmp_path / "pets", "cat/1.png", "dog/2.png")
    monkeypatch.chdir(root / "cat")
    for _ in range(25):
        os.mkdir("x" * 200)
        os.chdir("x" * 200)
    found = folders.list_folder(root)
    assert [image.name for image in found.images] == ["cat/1.png", "dog/2.png"]
    [(why, [name])] = found.left_out.items()
    assert why == "the folder cannot be opened (File name too long)" and name.endswith("x/")


# -- names ----------------------------------------------------------------------------------------


def test_names_that_are_no_utf8_are_shown_and_read(tmp_path, own_home):
    root = write(tmp_path / "pets", "dog/2.png")
    odd = os.fsencode(root) + b"/K\xe4fer"
    os.mkdir(odd)
    Path(os.fsdecode(odd + b"/\xff.png")).write_bytes(PNG)
    dataset = ingest(root, own_home)
    assert dataset.classes == (r"K\udce4fer", "dog")
    assert dataset.names[0] == r"K\udce4fer/\udcff.png" and dataset.image_bytes(0) == PNG
    assert not len(dataset.gone())


def test_two_spellings_in_unicode_are_one_class(tmp_path, own_home):
    root = write(tmp_path / "pets", "K\u00e4fer/1.png", "Ka\u0308fer/1.png", "dog/2.png")
    for dataset in (
        ingest(root, own_home), ingest(pack(root, tmp_path / "a.zip"), own_home, "zip")
    ):  # fmt: skip
        assert dataset.classes == ("K\u00e4fer", "dog")
        assert len(set(dataset.names)) == 3


def test_an_image_is_recognised_without_its_ending(tmp_path, own_home):
    root = write(tmp_path / "pets", "cat/photo", "cat/UPPER.PNG", "dog/a.jpe", "dog/b.jfif",
                 "dog/note.txt", "cat/2024-11-28 12.30.45", "dog/raw.cr2")  # fmt: skip
    (root / "dog" / "words").write_text("no image")
    dataset = ingest(root, own_home)
    assert len(dataset) == 5
    assert dict(dataset.skipped) == {
        "dog/note.txt": "Graft does not read .txt files", "dog/words": "its content is no image",
        "dog/raw.cr2": "Graft does not read .cr2 files",
    }  # fmt: skip


NAMES = [
    ("cp932", ["猫", "犬"]), ("cp932", ["表", "犬"]), ("cp932", ["りんご", "バナナ"]),
    ("gbk", ["玫瑰", "向日葵"]), ("gbk", ["猫", "狗"]), ("gbk", ["良品", "不良品"]),
    ("big5", ["貓", "狗狗"]), ("big5", ["蘋果", "香蕉"]), ("cp949", ["고양이", "개"]),
    ("cp949", ["정상", "불량"]), ("cp866", ["кошка", "собака"]), ("cp1251", ["Роза", "Тюльпан"]),
    ("cp1252", ["Möwe", "Rüde"]), ("cp850", ["Möwe", "Rüde"]), ("cp1252", ["café", "thé"]),
    ("cp1250", ["łódź", "żaba"]), ("utf-8", ["猫", "Möwe"]),
]  # fmt: skip


@pytest.mark.parametrize(("page", "labels"), NAMES, ids=lambda value: str(value))
def test_names_of_other_systems_are_read(page, labels, tmp_path, own_home):
    names = [f"{label}/{i:06d}.png".encode(page) for label in labels for i in range(2)]
    dataset = ingest(with_raw_names(tmp_path / "a.zip", names), own_home, "zip")
    assert dataset.classes == tuple(sorted(labels))
    assert any("does not say how" in note for note in dataset.notes) == (page != "utf-8")


ODD = {"a file": "cat/Möwe.png", "the folder around": "Möwe/cat/1.png", "no image": "cat/Möwe.txt"}


@pytest.mark.parametrize("case", ODD)
def test_a_zip_of_another_system_may_have_plain_class_names(case, tmp_path, own_home):
    around = "Möwe/" if case == "the folder around" else ""
    names = [ODD[case], f"{around}cat/2.png", f"{around}dog/3.png"]
    raw = [name.encode("cp1252") for name in names]
    dataset = ingest(with_raw_names(tmp_path / "a.zip", raw), own_home, "zip")
    assert dataset.classes == ("cat", "dog")
    note = next(note for note in dataset.notes if "does not say how" in note)
    assert ("Möwe" in note) == (case != "no image")


def test_a_name_of_ascii_alone_needs_no_guess():
    assert code_pages.guess([b"caf\xc3\xa9"]) == "utf-8"


def test_backslashes_separate_folders_if_nothing_else_does(tmp_path, own_home):
    names = [b"pets\\cat\\1.png", b"pets\\dog\\2.png"]
    dataset = ingest(with_raw_names(tmp_path / "a.zip", names), own_home, "zip")
    assert dataset.classes == ("cat", "dog")


def test_an_unsafe_name_in_a_zip_does_not_hide_a_safe_one(tmp_path, own_home):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for name in ("/cat/1.png", "cat/1.png", "dog/2.png"):
            packed.writestr(name, PNG)
    assert ingest(tmp_path / "a.zip", own_home, "zip").names == ["cat/1.png", "dog/2.png"]


def test_a_name_with_a_zero_byte_is_named(tmp_path):
    path = with_raw_names(tmp_path / "a.zip", [b"cat/\0.png", b"cat/1.png", b"dog/2.png"])
    with archive.Archive(path) as found:
        assert [image.name for image in found.entries] == ["cat/1.png", "dog/2.png"]
        [(name, why)] = found.skipped
    assert name == r"cat/\u0000.png" and "cannot be seen" in why


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file of Linux")
def test_a_zip_on_a_disk_that_fails_is_named():
    with pytest.raises(GraftError, match=r"cannot be read \(Input/output error\)"):
        archive.Archive("/proc/self/mem")


def test_a_zip_of_another_compression_says_what_to_do(tmp_path, own_home):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_BZIP2) as packed:
        packed.writestr("cat/1.png", PNG)
        packed.writestr("dog/1.png", PNG)
    with pytest.raises(GraftError, match="not deflate.*unpack it and use the folder"):
        ingest(tmp_path / "a.zip", own_home, "zip")


# -- everything at once ---------------------------------------------------------------------------

CLASSES = st.sampled_from(["", "cat", "dog", "Cat", "test", "train", "ba\u0308r", "s1"])
WRAPPERS = st.sampled_from([(), ("pets",), ("pets", "v1"), ("seg_train",), ("__MACOSX",)])
PARTS = st.sampled_from([(), ("train",), ("Val",), ("test_set",), ("holdout",), ("extra",)])
FILES = st.sampled_from([
    "1.png", "2.PNG", "3", "notes.txt", ".hidden.png", "a b.jpe", "x.cr2", "Thumbs.db", "more.zip",
    "@eaDir/t.png", "deep/4.png", "deep/er/5.png",
])  # fmt: skip
TREES = st.lists(st.tuples(WRAPPERS, PARTS, CLASSES, FILES), min_size=1, max_size=12)


# The same trees in each run, so that a change breaks this test and not chance.
@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(TREES, st.booleans())
def test_every_file_is_an_image_or_left_out_with_a_reason(found, linked):
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "data"
        for above, part, label, file in found:
            target = root.joinpath(*above, *part, label, file)
            if not any(folder.is_file() for folder in target.parents if folder.exists()):
                if not target.exists():
                    write(root, str(target.relative_to(root)))
        packed = pack(root, Path(place) / "data.zip")
        looked = folders.look(root)
        with archive.Archive(packed, 0) as opened:
            assert same(opened.tree) == same(folders.look(root, loose=True))
        if linked:
            os.symlink(root, root / "circle")
            circle = folders.look(root)
            assert same(circle)[0] == same(looked)[0]
            assert ["circle/"] == circle.left_out[folders.READ_ALREADY]
        assert all(image.name for image in folders.look(root, loose=True).images)
        used = {image.origin.path for image in looked.images}
        gone = [name for names in looked.left_out.values() for name in names]
        for path in root.glob("**/*"):
            place = str(path.relative_to(root))
            name = folders.clean(place)
            if path.is_file() and not name.startswith("circle"):
                listed = [g for g in gone if g == name or (g[-1] == "/" and name.startswith(g))]
                assert (place in used) + len(listed) == 1, (name, listed)
        try:
            folders.list_folder(root)
        except GraftError as error:
            assert "\n" not in str(error)


def same(found: tree.Tree):
    """What must not depend on the container."""
    images = [(image.name, image.label, image.part) for image in found.images]
    return images, found.layout, {why: sorted(names) for why, names in found.left_out.items()}
