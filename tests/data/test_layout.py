"""Parts and classes are recognised in folders and zips; a source's own parts are the default."""

import hashlib
import json
import zipfile
from types import SimpleNamespace

import pytest

from engine.data import additions, datasets, prepare_worker
from engine.data.sources import archive, collection, layout
from engine.data.sources import tree as layout_tree
from engine.errors import DatasetError, TrainingError
from engine.jobs import jobs
from engine.recipe import DatasetSpec, Recipe, load_preset
from engine.runs import files, runs
from tests.support.pictures import encode, picture

PARTS = ["train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "test/dog/4.png"]
PETS = ("cat", "dog")

UNDERSTOOD = {
    # an empty folder, or one without images, is no class
    "beside nothing": (PARTS, PETS, {"train", "test"}),
    "beside documents": ([*PARTS, "docs/a.txt", "docs/more/b.txt"], PETS, {"train", "test"}),
    "beside hidden images": ([*PARTS, "__MACOSX/train/._1.png"], PETS, {"train", "test"}),
    "an unlabelled test": ([*PARTS[:2], "test/3.png"], PETS, {"train"}),
    # common names
    "sets": (["training_set/cat/1.png", "training_set/dog/2.png", "test_set/cat/3.png"], PETS,
             {"train", "test"}),
    "seg": (["seg_train/cat/1.png", "seg_train/dog/2.png", "seg-test/dog/3.png"], PETS,
            {"train", "test"}),
    "years": (["Train2017/cat/1.png", "Train2017/dog/2.png", "val2017/dog/3.png"], PETS,
              {"train", "validation"}),
    "eval": (["train/cat/1.png", "train/dog/2.png", "Eval/dog/3.png"], PETS, {"train", "eval"}),
    "another folder of images": ([*PARTS, "preview/1.png"], PETS, {"train", "test"}),
    "one more part": ([*PARTS, "spare/cat/5.png"], PETS, {"train", "test", "spare"}),
    "another name": (["train/cat/1.png", "train/dog/2.png", "holdout/cat/3.png"], PETS,
                     {"train", "test"}),
    "two of one part": ([*PARTS, "testing/cat/5.png"], PETS, {"train", "test", "testing"}),
    "parts in parts": (["seg_train/seg_train/cat/1.png", "seg_train/seg_train/dog/2.png",
                        "seg_test/seg_test/dog/3.png"], PETS, {"train", "test"}),
    "a folder in each part": (["train/images/cat/1.png", "train/images/dog/2.png",
                               "test/images/dog/3.png"], PETS, {"train", "test"}),
    "an unlabelled test in a folder": ([*PARTS[:2], "test/images/3.png"], PETS, {"train"}),
    "a folder in one part": ([*PARTS[:2], "test/images/cat/3.png", "test/images/dog/4.png"], PETS,
                             {"train", "test"}),
    "parts in parts, unlabelled": (["trainingSet/trainingSet/cat/1.png", "testSet/testSet/3.png",
                                    "trainingSet/trainingSet/dog/2.png"], PETS, {"train"}),
    "training in one word": (["trainingset/cat/1.png", "trainingset/dog/2.png",
                              "testingset/cat/3.png"], PETS, {"train", "test"}),
    "images beside all": (["a.png", "photos/b.png", *(f"photos/v1/{n}" for n in PARTS)], PETS,
                          {"train", "test"}),
    "sets in one word": (["trainset/cat/1.png", "trainset/dog/2.png", "testset/cat/3.png"], PETS,
                         {"train", "test"}),
    "parts in classes": (["cat/train/1.png", "cat/test/2.png", "dog/train/3.png"], PETS,
                         {"train", "test"}),
    "one folder around all": (["photos/v1/cat/1.png", "photos/v1/dog/2.png", "README.md"], PETS,
                              {"train"}),
    "folders below a class": (["cat/s1/1.png", "cat/s2/2.png", "dog/s1/deep/3.png"], PETS,
                              {"train"}),
    "system folders": (["cat/1.png", "dog/2.png", "@eaDir/x.png", "#recycle/y.png",
                        "$RECYCLE.BIN/z.png", "lost+found/a.png", "cat/@eaDir/1.png/T.png",
                        ".thumbnails/b.png"], PETS, {"train"}),
    "Cat and cat": (["train/Cat/1.png", "train/Cat/5.png", "train/dog/2.png", "test/cat/3.png"],
                    ("Cat", "dog"), {"train", "test"}),
    "masks": (["cat/images/1.png", "cat/masks/1.png", "dog/images/2.png", "dog/masks/2.png"], PETS,
              {"train"}),
    "a part called added": (["train/cat/1.png", "train/dog/2.png", "test/cat/3.png",
                             "added/cat/4.png"], PETS, {"train", "test", "added folder"}),
    "letters": (["a/1.png", "A/2.png"], ("A", "a"), {"train"}),
    # classes that are named like parts
    "test among others": (["cat/1.png", "dog/2.png", "test/3.png"],
                          ("cat", "dog", "test"), {"train"}),
    "trains": (["bullet train/1.png", "car/2.png", "test tube/3.png", "cup/4.png"],
               ("bullet train", "car", "cup", "test tube"), {"train"}),
    "tests": (["blood_test/a/1.png", "urine_test/b/2.png"],
              ("blood_test", "urine_test"), {"train"}),
    "same folders": (["red/big/1.png", "red/small/2.png", "blue/big/3.png", "blue/small/4.png"],
                     ("blue", "red"), {"train"}),
}  # fmt: skip

UNCLEAR = {
    "a class beside them": ([*PARTS, "cat/5.png"], "beside other folders ('cat')"),
    "a part alone": (["test/a/1.png", "cat/2.png", "dog/3.png"], "('cat', 'dog')"),
    "two names": (["train/cat/1.png", "train_val/cat/3.png", "test/cat/2.png"], "('train_val')"),
    "no classes": (["train_images/1.png", "test_images/2.png"], "without class folders in them"),
    "capitals": ([f"{part}{side}/1.png" for part in ("train", "test") for side in "AB"],
                 "('testA', 'testB', 'trainA', 'trainB') without class folders in them"),
    "parts in parts": (
        ["train/train/1.png", "train/test/2.png", "test/train/3.png", "test/test/4.png"],
        "like parts again",
    ),
}  # fmt: skip


def as_folder(path, files):
    for number, name in enumerate(files):
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(picture(24, 16, seed=number)) if ".png" in name else b"words")
    return DatasetSpec(source="folder", path=str(path))


def as_zip(path, files):
    as_folder(path, files)
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as packed:
        for name in files:
            packed.write(path / name, f"pets/{name}")
    return DatasetSpec(source="zip", path=str(path.with_suffix(".zip")))


@pytest.fixture(params=[as_folder, as_zip], ids=["folder", "zip"])
def source(request):
    return request.param


@pytest.mark.parametrize("case", UNDERSTOOD)
def test_parts_and_classes_are_told_apart(case, source, tmp_path, own_home):
    files, classes, parts = UNDERSTOOD[case]
    spec = source(tmp_path / "pets", files)
    (tmp_path / "pets" / "annotations").mkdir(exist_ok=True)
    dataset = prepare_worker.ingest(spec, own_home)
    assert dataset.classes == classes
    assert set(dataset.source_splits.tolist()) == parts


def test_what_lies_beside_the_classes_of_a_folder_is_named(tmp_path, own_home):
    files = [*PARTS, "loose.png", "docs/a.txt", "docs/b.txt", "test/c.png"]
    dataset = prepare_worker.ingest(as_folder(tmp_path / "pets", files), own_home)
    (tmp_path / "pets" / "empty").mkdir()
    assert dict(dataset.skipped) == {
        "docs/ (2 files)": "Graft does not read .txt files",
        "loose.png": "it is not in a class folder",
        "test/c.png": "it is not in a class folder",
    }
    said = "2 parts × 2 classes; left out: docs/, 4 files and folders"
    assert dataset.notes[0] == f"Understood as {said}."


@pytest.mark.parametrize("case", UNCLEAR)
def test_what_may_be_parts_stops_with_what_was_found_and_what_to_do(
    case, source, tmp_path, own_home
):
    files, words = UNCLEAR[case]
    spec = source(tmp_path / "pets", files)
    with pytest.raises(DatasetError) as caught:
        prepare_worker.ingest(spec, own_home)
    said = str(caught.value)
    assert words in said and "name them train, validation and test" in said and "\n" not in said
    assert not list((own_home / "datasets").glob("*/manifest.json"))


def test_parts_inside_one_of_several_folders_are_asked_about(source, tmp_path, own_home):
    inner = [f"split/{name}" for name in PARTS]
    spec = source(tmp_path / "pets", ["raw/cat/5.png", "raw/dog/6.png", *inner])
    with pytest.raises(DatasetError, match=r"\('test', 'train'\) in 'split'.*use the folder"):
        prepare_worker.ingest(spec, own_home)
    chosen = spec.model_copy(update={"layout": "class"})
    assert prepare_worker.ingest(chosen, own_home).classes == ("raw", "split")


def test_a_folder_that_holds_the_others_again_is_asked_about(source, tmp_path, own_home):
    files = ["rose/1.png", "tulip/2.png", "flowers/rose/3.png", "flowers/tulip/4.png"]
    spec = source(tmp_path / "pets", files)
    with pytest.raises(DatasetError, match=r"'flowers'.*also beside it \('rose', 'tulip'\)"):
        prepare_worker.ingest(spec, own_home)
    chosen = spec.model_copy(update={"layout": "class"})
    assert prepare_worker.ingest(chosen, own_home).classes == ("flowers", "rose", "tulip")


def test_a_zip_that_may_be_parts_is_not_added_as_classes(tmp_path, own_home):
    spec = as_zip(tmp_path / "pets", UNCLEAR["a class beside them"][0])
    collection.create(own_home, "mine")
    with pytest.raises(DatasetError, match="named like parts"):
        additions.add_zip(own_home, "mine", spec.path)
    # Images to be classified need no classes, so there it does not matter.
    with archive.Archive(spec.path, 0) as found:
        assert len(found.entries) == 5


def test_renaming_is_a_way_out(tmp_path, own_home):
    spec = as_folder(tmp_path / "pets", [*PARTS, "cat/5.png"])
    with pytest.raises(DatasetError):
        prepare_worker.ingest(spec, own_home)
    (tmp_path / "pets" / "validation").mkdir()
    (tmp_path / "pets" / "cat").rename(tmp_path / "pets" / "validation" / "cat")
    assert prepare_worker.ingest(spec, own_home).classes == PETS


def test_a_person_may_say_what_the_folders_are(source, tmp_path, own_home):
    spec = source(tmp_path / "pets", [*PARTS, "cat/5.png"])
    chosen = spec.model_copy(update={"layout": "part/class"})
    dataset = prepare_worker.ingest(chosen, own_home)
    assert dataset.classes == PETS and dict(dataset.left_out) == {layout_tree.NO_CLASS: 1}
    assert any("2 parts × 2 classes" in note for note in dataset.notes)
    chosen = spec.model_copy(update={"layout": "class"})
    assert prepare_worker.ingest(chosen, own_home).classes == ("cat", "test", "train")


def test_folders_that_repeat_are_classes_and_the_other_reading_is_offered(
    source, tmp_path, own_home
):
    files = ["cat/s1/1.png", "cat/s2/2.png", "dog/s1/3.png", "dog/s2/4.png"]
    spec = source(tmp_path / "pets", files)
    dataset = prepare_worker.ingest(spec, own_home)
    assert dataset.classes == PETS
    assert "choose the layout part/class" in dataset.notes[1]
    other = prepare_worker.ingest(spec.model_copy(update={"layout": "part/class"}), own_home)
    assert other.classes == ("s1", "s2") and set(other.source_splits.tolist()) == {"cat", "dog"}


def test_downloads_side_by_side_are_asked_about(source, tmp_path, own_home):
    files = [f"drive-{i}/pets/{label}/{i}.png" for i in (1, 2) for label in PETS]
    spec = source(tmp_path / "pets", files)
    dataset = prepare_worker.ingest(spec, own_home)
    assert dataset.classes == ("drive-1", "drive-2")
    assert "choose the layout part/class" in dataset.notes[1]
    other = spec.model_copy(update={"layout": "part/class"})
    assert prepare_worker.ingest(other, own_home).classes == PETS


def test_an_unlabelled_folder_is_a_class_only_if_a_person_says_so(source, tmp_path, own_home):
    spec = source(tmp_path / "pets", [*PARTS[:2], "test/images/3.png"])
    dataset = prepare_worker.ingest(spec, own_home)
    assert "only 'images' in 'test'" in dataset.notes[1]
    assert dict(dataset.left_out) == {layout_tree.NO_CLASS: 1}
    other = spec.model_copy(update={"layout": "part/class"})
    assert prepare_worker.ingest(other, own_home).classes == (*PETS, "images")


def test_a_part_is_called_as_before_where_its_name_is_usual():
    named = ["Train", "val", "seg_train", "myTest", "train_test", "latest", "2020", ""]
    assert [layout.part_of(name) for name in named] == [
        "train", "val", "train", "test", None, None, None, None,
    ]  # fmt: skip


# -- training -----------------------------------------------------------------------------------

SHORT = ["stages.0.epochs=1", "stages.1.epochs=1", "backbone.weights=none", "image_size=32"]


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """A folder with train, valid and test of two classes, 20 images each."""
    root = tmp_path_factory.mktemp("parts") / "pets"
    for number, part in enumerate(("train", "valid", "test")):
        for label in range(2):
            (root / part / PETS[label]).mkdir(parents=True)
            for i in range(20):
                image = picture(32, 32, seed=1000 * number + 100 * label + i)
                image.save(root / part / PETS[label] / f"{i}.png")
    return root


def begun(recipe, home):
    """(run, its split by contents, what it notes) with its dataset open, before any training."""
    from engine.train import training

    run, said = runs.create(recipe, home), []
    log = SimpleNamespace(write=lambda kind, text: said.append(text))
    training._open_data(run, home, lambda *_: None, log, False)
    return run, json.loads((run.path / files.SPLIT).read_text()), said


def recipe_for(pets, *sets):
    return load_preset("sample", [*SHORT, "dataset.source=folder", f"dataset.path={pets}", *sets])


def test_training_tests_on_the_sources_own_test_images_alone(pets, own_home):
    _, split, notes = begun(recipe_for(pets), own_home)
    for part, own in (("train", "train"), ("validation", "valid"), ("test", "test")):
        assert set(split[part]) == {
            hashlib.sha256(file.read_bytes()).hexdigest() for file in (pets / own).rglob("*.png")
        }
    assert "The source has its own train, validation and test." in notes


def test_a_run_whose_recipe_says_stratified_stays_so_and_can_be_continued(pets, own_home):
    """As runs are that were made when this was the default."""
    from engine.train import continuing

    before = recipe_for(pets, "split.method=stratified")
    kept = Recipe.from_yaml(before.to_yaml())
    assert kept.split.method == "stratified"
    run, split, _ = begun(kept, own_home)
    run.update(status="finished")
    (run.path / files.LITERT).write_bytes(b"stands for a model")
    stage = kept.stages[-1].model_dump(mode="json") | {"name": "more"}
    more = jobs.continued(run, [stage])
    assert begun(more, own_home)[1] == split
    assert {len(split[part]) for part in ("train", "validation", "test")} == {78, 18, 24}
    # Divided otherwise, images it has learnt from would be tested on.
    dataset, other = datasets.open_dataset(more.dataset, own_home), recipe_for(pets).split
    more = more.model_copy(update={"split": other})
    work = SimpleNamespace(home=own_home, recipe=more, dataset=dataset, split=dataset.split(other))
    with pytest.raises(TrainingError, match="keep the split"):
        continuing.begin(work)
