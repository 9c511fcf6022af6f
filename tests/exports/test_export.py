"""Exports: every format answers as the run does, by itself, and says so in its certificate."""

import copy
import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from engine import home as homes
from engine.cli.main import app
from engine.errors import GraftError
from engine.exports import background, card, certify, exports, formats, worker
from engine.images import decode
from engine.predict.classifier import Classifier
from engine.runs import runs
from tests.support.crafted_files import png
from tests.support.pictures import encode, picture

ALL = [
    (name, precision) for name, about in formats.FORMATS.items() for precision in about.precisions
]


@pytest.fixture(scope="session")
def exported(informative_run):
    """A function that exports the run, each way once."""
    made = {}

    def get(format, precision="float32"):
        if formats.missing(format):
            pytest.skip(f"needs {formats.EXTRA}")
        if (format, precision) not in made:
            made[format, precision] = worker.export(informative_run, format, precision)
        return made[format, precision]

    return get


@pytest.fixture
def unpacked(exported, tmp_path):
    """A function that exports and unpacks."""

    def get(format, precision="float32"):
        with zipfile.ZipFile(exported(format, precision)["path"]) as archive:
            archive.extractall(tmp_path / format)
        return tmp_path / format

    return get


@pytest.fixture
def moved_run(informative_run, own_home):
    """A copy of the run on a host without its dataset, with another temperature."""
    path = own_home / "runs" / informative_run.id
    changing = shutil.ignore_patterns("exports", "manifest.json")
    shutil.copytree(informative_run.path, path, ignore=changing)
    found = homes.read_json(path / "confidence.json", {})
    homes.write_json(path / "confidence.json", found | {"temperature": 2.0})
    return runs.Run(path)


@pytest.mark.parametrize(("format", "precision"), ALL)
def test_every_export_agrees_with_the_run(exported, informative_run, format, precision):
    found = exported(format, precision)
    certificate = found["certificate"]
    print(json.dumps(certificate, indent=1))
    validation = homes.read_json(informative_run.path / "split.json")["validation"]
    assert certificate["images"] == min(certify.IMAGES, len(set(validation)))
    assert "validation part" in certificate["images_from"]
    assert certificate["agrees"] and exports.kept(informative_run, format, precision) == found
    if precision != "int8":
        assert certificate["equal_labels"] == 1 and certificate["largest_difference"] < 1e-3
    assert certificate["equal_labels"] >= 0.97
    if format in ("litert", "onnx"):  # by itself: nothing of Graft, nothing of TensorFlow
        assert not any(certificate["imported"].values())
    if precision == "int8":
        sizes = [exported(format, p)["bytes"] for p in ("float32", "float16", "int8")]
        assert sizes == sorted(sizes, reverse=True)
    with zipfile.ZipFile(found["path"]) as archive:
        names, card = archive.namelist(), archive.read("MODEL_CARD.md").decode()
        labels = archive.read("labels.txt").decode().splitlines()
        stated = json.loads(archive.read("preprocessing.json"))
    assert {"classify.py", "certificate.json", "recipe.yaml"} <= set(names)
    assert any(name.startswith(formats.FORMATS[format].model) for name in names)
    assert labels == informative_run.classes
    assert stated["input"]["shape"][1] == informative_run.architecture["image_size"]
    low, high = informative_run.evaluation["test"]["interval"]
    assert f"({low:.1%} to {high:.1%})" in card and "it agrees" in card
    assert "Licence of the images" in card and "not stated" in card


def test_a_card_of_many_classes_is_short_and_no_name_breaks_its_table(
    exported, informative_run, own_home, monkeypatch
):
    figures = copy.deepcopy(informative_run.evaluation)
    weakest = min(figures["test"]["per_class"], key=lambda row: row["f1"])
    weakest["label"] = "a|b"
    monkeypatch.setattr(card, "NAMED", 1)
    monkeypatch.setattr(runs.Run, "evaluation", figures)
    certificate = exported("litert")["certificate"]
    text = card.model_card(informative_run, own_home, certificate)
    classes = informative_run.classes
    assert f"{len(classes)} classes: {classes[0]} and {len(classes) - 1} more, all in" in text
    assert f"| a\\|b | {weakest['support']} |" in text
    assert f"{len(classes) - 1} others are not listed" in text


@pytest.mark.parametrize("format", formats.FORMATS)
def test_its_script_says_what_the_app_says(unpacked, informative_run, tmp_path, format):
    example = informative_run.examples()[0]["path"]
    answer = Classifier(informative_run).predict([example])[0].top(1)[0]
    command = [sys.executable, "-I", unpacked(format) / "classify.py", example]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    probability, label = done.stdout.splitlines()[0].split(maxsplit=1)
    assert label == answer[0] and float(probability) == pytest.approx(answer[1], abs=1e-3)


def test_its_script_prepares_images_as_the_app_does(
    unpacked, informative_run, monkeypatch, tmp_path
):
    """A photo on its side and a drawing with transparency."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("classify", unpacked("litert") / "classify.py")
    spec.loader.exec_module(classify := importlib.util.module_from_spec(spec))
    turned, clear = picture(90, 60), picture(80, 70, mode="RGBA")
    exif = turned.getexif()
    exif[0x0112] = 6  # the orientation of a phone held upright
    clear.putalpha(128)
    (tmp_path / "a.jpg").write_bytes(encode(turned, "JPEG", exif=exif))
    (tmp_path / "b.png").write_bytes(encode(clear))
    model = Classifier(informative_run)
    for name in ("a.jpg", "b.png"):
        ours = decode.load(tmp_path / name, model.size, model.resize)
        assert np.array_equal(classify.read(tmp_path / name), ours)


def test_a_saved_model_answers_the_bytes_of_image_files(unpacked, exported, informative_run):
    import tensorflow as tf

    served = tf.saved_model.load(str(unpacked("saved_model") / "saved_model"))
    files = [row["path"].read_bytes() for row in informative_run.examples()[:4]]
    files.append(encode(picture(300, 200)))  # another size, another format
    given = served.signatures["serving_default"](tf.constant(files))["probabilities"].numpy()
    ours = Classifier(informative_run).probabilities(files)
    assert given.shape == ours.shape and np.abs(given - ours).max() < 0.05
    encoded = exported("saved_model")["certificate"]["encoded"]
    assert encoded["refused"] == 0 and encoded["equal_labels"] > 0.98


def test_one_that_disagrees_says_so_everywhere(moved_run, own_home, monkeypatch, capsys):
    # The temperature is in the export, and examples stand in for the dataset.
    found = worker.export(moved_run, "litert")
    certificate = found["certificate"]
    assert certificate["agrees"] and certificate["temperature"] == 2.0
    assert "example images" in certificate["images_from"]
    assert certificate["images"] == len(moved_run.examples())

    from engine.exports import convert

    truthful = convert.answering

    def confused(run):
        model = truthful(run)
        logits = model.get_layer("logits")
        logits.set_weights([weights[..., ::-1] for weights in logits.get_weights()])
        return model

    monkeypatch.setattr(convert, "answering", confused)
    found = worker.export(moved_run, "litert")
    assert not found["certificate"]["agrees"] and found["path"].stem.endswith("-DISAGREES")
    assert [p.name for p in found["path"].parent.glob("*.zip")] == [found["path"].name]
    with zipfile.ZipFile(found["path"]) as archive:
        assert "DOES NOT AGREE" in archive.read("MODEL_CARD.md").decode()

    arguments = ["export", moved_run.id, "--format", "litert", "--home", str(own_home)]
    with pytest.raises(SystemExit) as ended:
        app(arguments)
    said = capsys.readouterr()
    assert ended.value.code == 1 and said.out.strip().splitlines()[-1] == str(found["path"])
    assert "DOES NOT AGREE" in said.err

    # After another calibration the run answers differently, so the kept export is outdated.
    path = moved_run.path / "confidence.json"
    homes.write_json(path, homes.read_json(path) | {"temperature": 1.5})
    assert exports.kept(moved_run, "litert") is None


def test_in_the_background_as_pages_and_commands_do(moved_run, own_home, tmp_path, capsys):
    assert background.state(moved_run, "litert", own_home)["state"] == "missing"
    background.begin(moved_run, "litert", own_home)
    background.begin(moved_run, "litert", own_home)  # the same one
    assert background.state(moved_run, "litert", own_home)["state"] == "running"
    background.cancel(moved_run, "litert", own_home)
    assert background.state(moved_run, "litert", own_home)["state"] == "missing"
    assert not list((moved_run.path / "exports").glob("*.zip"))

    arguments = ["export", moved_run.id, "--format", "litert", "--home", str(own_home)]
    app([*arguments, "--output", str(tmp_path / "out"), "--json"], standalone_mode=False)
    printed = json.loads(capsys.readouterr().out)
    assert printed["path"] == str(tmp_path / "out" / f"{moved_run.id}-litert.zip")
    assert zipfile.is_zipfile(printed["path"]) and printed["certificate"]["agrees"]
    now = background.state(moved_run, "litert", own_home)
    assert now["state"] == "done" and now["result"]["certificate"] == printed["certificate"]


@pytest.mark.parametrize(
    ("format", "precision", "says"),
    [
        ("gguf", "float32", "there is no format 'gguf'; choose one of keras"),
        ("keras", "int8", "cannot be exported in 'int8'; choose float32"),
        ("onnx", "float32", "pip install -r requirements-export.txt"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    informative_run, own_home, monkeypatch, format, precision, says
):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)  # as if it were not installed
    for refused in (worker.export, background.begin):
        with pytest.raises(GraftError) as error:
            refused(informative_run, format, home=own_home, precision=precision)
        assert says in str(error.value)


def test_an_unfinished_run_is_refused(own_home):
    from engine.recipe import load_preset

    run = runs.create(load_preset("sample"), own_home)
    with pytest.raises(GraftError, match="has no model to export"):
        background.begin(run, "keras", own_home)


def test_one_that_cannot_be_loaded_is_no_export(moved_run, monkeypatch):
    from engine.exports import convert

    monkeypatch.setattr(convert, "litert", lambda model, path, *_: path.write_bytes(b"junk"))
    with pytest.raises(GraftError, match="could not be loaded and run by itself"):
        worker.export(moved_run, "litert")
    assert [p.name for p in (moved_run.path / "exports").iterdir()] == [".lock"]


@pytest.mark.parametrize("largest", [4000, 65_535])
def test_classify_py_reads_more_than_8_bits_as_graft_does(
    unpacked, informative_run, tmp_path, largest
):
    folder = unpacked("litert")
    deep = np.linspace(0, largest, 300 * 200).reshape(200, 300).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(deep // 8).save(tmp_path / "dark.tif", tiffinfo={281: largest})
    rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in deep)
    (tmp_path / "colour.png").write_bytes(png(300, 200, 16, 2, rows))
    code = "import sys, numpy, classify; numpy.save(sys.argv[2], classify.read(sys.argv[1]))"
    size = informative_run.architecture["image_size"]
    for name in ("deep.png", "dark.tif", "colour.png"):
        command = [sys.executable, "-c", code, tmp_path / name, tmp_path / "read.npy"]
        subprocess.run(command, cwd=folder, check=True)
        ours = decode.load(tmp_path / name, size, informative_run.recipe.resize)
        assert np.abs(np.load(tmp_path / "read.npy").astype(int) - ours).max() <= certify.LEVELS


def test_an_export_made_again_that_fails_is_no_success(informative_run, exported, graft_home):
    import time

    exported("litert")
    request = background._job(informative_run, "litert", graft_home, "float32").path
    request.parent.mkdir(exist_ok=True)
    homes.write_json(request, {"started": time.time() + 60, "error": "the disk is full"})
    state = background.state(informative_run, "litert", graft_home)
    request.unlink()
    assert (state["state"], state["error"]) == ("failed", "the disk is full")
    assert background.state(informative_run, "litert", graft_home)["state"] == "done"
