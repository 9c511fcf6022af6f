"""Datasets: sources, preparing, splits."""

import os
import shutil

import numpy as np
import pytest

from engine.cli.dataset_argument import spec_of
from engine.data import datasets, prepare_worker
from engine.data.sources import tfds_source
from engine.errors import DatasetError, RecipeError
from engine.images import preview
from engine.recipe import DatasetSpec, SplitSpec, load_preset
from tests.support.pictures import encode, picture
from tests.support.real_data import real_data


def folder_spec(path):
    return DatasetSpec(source="folder", path=str(path))


def test_a_folder_is_read_where_it_lies(class_folder, own_home):
    dataset = prepare_worker.ingest(folder_spec(class_folder), own_home)
    assert dataset.classes == ("blue", "green", "red")
    assert len(dataset) == 36 and set(np.bincount(dataset.labels)) == {12}
    assert dataset.image_bytes(0) == (class_folder / dataset.names[0]).read_bytes()
    assert set(dataset.widths) == {64} and set(dataset.formats) == {"JPEG"}


def test_unreadable_files_are_named_and_left_out(class_folder, own_home):
    good = (class_folder / "red" / "00.jpg").read_bytes()
    (class_folder / "red" / "cut.jpg").write_bytes(good[:300])
    (class_folder / "red" / "empty.png").write_bytes(b"")
    (class_folder / "blue" / "words.jpg").write_text("not an image")
    (class_folder / "blue" / "notes.txt").write_text("no image")
    (class_folder / "lost").mkdir()
    (class_folder / "lost" / "cut.jpg").write_bytes(good[:300])
    (class_folder / "green" / "avif.jpg").write_bytes(encode(picture(), "AVIF"))
    (class_folder / "empty class").mkdir()
    os.symlink("/nowhere.jpg", class_folder / "red" / "dangling.jpg")
    dataset = prepare_worker.ingest(folder_spec(class_folder), own_home)
    assert {name for name, _ in dataset.unreadable} == {
        "red/cut.jpg", "red/empty.png", "blue/words.jpg", "lost/cut.jpg",
    }  # fmt: skip
    assert dict(dataset.skipped) == {
        "blue/notes.txt": "Graft does not read .txt files",
        "red/dangling.jpg": "it is a link to nothing",
        "lost/": prepare_worker.NO_IMAGE,
    }
    assert len(dataset) == 37 and "green/avif.jpg" in dataset.names
    assert dataset.classes == ("blue", "green", "red")


@pytest.mark.parametrize("case", ["missing", "file", "empty", "one class"])
def test_a_folder_that_is_no_dataset_gets_a_sentence(case, class_folder, tmp_path, own_home):
    path = {"missing": tmp_path / "none", "file": class_folder / "red" / "00.jpg",
            "empty": tmp_path / "empty", "one class": class_folder}[case]  # fmt: skip
    (tmp_path / "empty").mkdir()
    if case == "one class":
        shutil.rmtree(class_folder / "red")
        shutil.rmtree(class_folder / "blue")
    with pytest.raises(DatasetError) as caught:
        prepare_worker.ingest(folder_spec(path), own_home)
    assert "folder" in str(caught.value)
    assert not list((own_home / "datasets").glob(f"*{path.name}*/manifest.json"))


def test_a_changed_folder_is_prepared_again(class_folder, own_home):
    spec = folder_spec(class_folder)
    before = prepare_worker.ingest(spec, own_home)
    assert not datasets.outdated(spec, own_home)
    (class_folder / "red" / "new.png").write_bytes(encode(picture(seed=999)))
    assert datasets.outdated(spec, own_home)
    after = prepare_worker.ingest(spec, own_home)
    assert len(after) == len(before) + 1 and after.fingerprint != before.fingerprint


def test_a_changed_folder_that_cannot_be_prepared_again_says_so(class_folder, own_home):
    spec = folder_spec(class_folder)
    prepare_worker.ingest(spec, own_home)
    kept = {file: file.read_bytes() for file in class_folder.rglob("*.jpg")}
    for file in kept:
        file.write_bytes(b"broken")
    datasets.prepare(spec, own_home)
    while (state := datasets.state(spec, own_home))["state"] == "preparing":
        pass
    assert state["state"] == "ready" and "at least two are needed" in state["error"]
    shutil.rmtree(class_folder)
    assert datasets.state(spec, own_home)["error"]
    assert len(datasets.open_dataset(spec, own_home)) == len(kept)


def test_own_parts_of_a_folder(class_folder, tmp_path, own_home):
    root = tmp_path / "parts"
    for part, sub in (("train", slice(0, 8)), ("val", slice(8, 10)), ("test", slice(10, 12))):
        for colour in ("red", "green", "blue"):
            (root / part / colour).mkdir(parents=True)
            for file in sorted((class_folder / colour).iterdir())[sub]:
                shutil.copy(file, root / part / colour)
    dataset = prepare_worker.ingest(folder_spec(root), own_home)
    assert dataset.classes == ("blue", "green", "red")
    parts = dataset.split(SplitSpec())
    assert {part: len(i) for part, i in parts.items()} == {"train": 24, "validation": 6, "test": 6}
    assert all(
        "/" in dataset.names[i] and dataset.names[i].startswith("val") for i in parts["validation"]
    )


def test_background_preparation_reports_and_can_be_cancelled(own_home):
    spec = DatasetSpec(source="sample", images=20_000)
    assert datasets.state(spec, own_home)["state"] == "missing"
    datasets.prepare(spec, own_home)
    assert datasets.state(spec, own_home)["state"] == "preparing"
    datasets.cancel(spec, own_home)
    assert datasets.state(spec, own_home)["state"] == "missing"
    assert not [p for p in (own_home / "datasets").iterdir() if p.is_dir()]
    with pytest.raises(DatasetError, match="not prepared"):
        datasets.open_dataset(spec, own_home)


def test_failed_preparation_says_why(own_home, class_folder):
    spec = folder_spec(class_folder)
    for file in class_folder.rglob("*.jpg"):
        file.write_bytes(b"broken")
    datasets.prepare(spec, own_home)
    while (state := datasets.state(spec, own_home))["state"] == "preparing":
        pass
    assert state["state"] == "failed" and "at least two are needed" in state["error"]


@pytest.mark.parametrize(
    "name", ["kaggle:flowers", "huggingface:cats/small:1.0.0", "some-one:cats:1.0.0", "kaggle:v1.0"]
)
def test_tfds_names_whose_code_comes_from_elsewhere_are_refused(name, own_home, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds, "builder", lambda *_: pytest.fail("the builder was called"))
    words = "its code would be downloaded and run"
    with pytest.raises(RecipeError) as caught:
        load_preset("flowers", [f"dataset.name={name}"])
    assert words in caught.value.problems["dataset"]
    with pytest.raises(DatasetError, match=words):
        spec_of(name, own_home)
    # As from a recipe that was written before they were refused.
    with pytest.raises(DatasetError, match=words):
        prepare_worker.ingest(
            DatasetSpec.model_construct(source="tfds", name=name, overlay=""), own_home
        )


@pytest.mark.parametrize(
    "name", ["mnist", "tf_flowers:3.*.*", "imagenette/320px-v2", "imagenette/320px-v2:1.0.0"]
)
def test_tfds_names_with_config_and_version_are_taken(name, own_home):
    assert spec_of(name, own_home) == DatasetSpec(source="tfds", name=name)


@pytest.mark.parametrize("name", ["tf_flower", "coco", "beans"])
def test_tfds_names_that_cannot_be_had_get_a_sentence(name, own_home, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    import tensorflow_datasets.core.constants as constants

    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path))
    monkeypatch.setattr(tfds_source, "_reach", _unreachable)
    words = {"tf_flower": "did you mean", "coco": "not an image classification",
             "beans": "could not be downloaded"}[name]  # fmt: skip
    with pytest.raises(DatasetError) as caught:
        prepare_worker.ingest(DatasetSpec(source="tfds", name=name), own_home)
    assert words in str(caught.value)


def test_any_tfds_builder_with_images_and_labels_will_do(own_home, tmp_path, monkeypatch):
    """A builder of our own: small grey pictures, two splits, keys named in another way."""
    import tensorflow_datasets as tfds

    class TinyDigits(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = tmp_path  # where TFDS would look for the builder's metadata

        def _info(self):
            features = {
                "picture": tfds.features.Image(shape=(28, 28, 1)),
                "digit": tfds.features.ClassLabel(num_classes=3),
            }
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, manager):
            return {"train": self._generate_examples(30), "test": self._generate_examples(9)}

        def _generate_examples(self, count):
            for i in range(count):
                pixels = np.random.default_rng([i, count]).integers(0, 255, (28, 28, 1), np.uint8)
                yield i, {"picture": pixels, "digit": i % 3}

    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    dataset = prepare_worker.ingest(DatasetSpec(source="tfds", name="tiny_digits"), own_home)
    assert len(dataset) == 39 and dataset.classes == ("0", "1", "2")
    parts = dataset.split(SplitSpec())
    assert {part: len(i) for part, i in parts.items()} == {"train": 24, "validation": 6, "test": 9}
    assert set(dataset.source_splits[parts["test"]]) == {"test"}
    assert preview.network_view(dataset, [0], load_preset("sample")).shape == (1, 96, 96, 3)


def _unreachable(urls):
    raise OSError("the host cannot be reached")


@real_data
def test_real_tfds_flowers(graft_home):
    dataset = prepare_worker.ingest(load_preset("flowers").dataset, graft_home)
    assert set(dataset.classes) == {"daisy", "dandelion", "roses", "sunflowers", "tulips"}
    assert len(dataset) == 3458 and not dataset.unreadable
    given = load_preset("flowers").split
    assert given.method == "auto"
    divided, stratified = dataset.split(given), given.model_copy(update={"method": "stratified"})
    for part, indices in dataset.split(stratified).items():
        assert np.array_equal(divided[part], indices)
    sizes = {p: len(i) for p, i in dataset.split(load_preset("reference").split).items()}
    assert sizes == {"train": 2594, "validation": 518, "test": 346}


def test_the_sample_is_prepared_like_any_other(graft_home, trained_run):
    spec = load_preset("sample").dataset
    assert datasets.state(spec, graft_home)["state"] == "ready"
    dataset = datasets.open_dataset(spec, graft_home)
    assert len(dataset) == 600 and "generated" in dataset.description.lower()
    given = load_preset("sample").split
    assert given.method == "auto"
    divided, stratified = dataset.split(given), given.model_copy(update={"method": "stratified"})
    for part, indices in dataset.split(stratified).items():
        assert np.array_equal(divided[part], indices)
