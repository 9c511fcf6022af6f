"""Harmless models from elsewhere become runs that answer alike; hostile ones get a sentence."""

import json
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from engine.errors import GraftError
from engine.imports import imports, keras_file
from engine.predict.classifier import Classifier
from engine.runs import runs
from tests.support import crafted_models, hostile_models
from tests.support.cli import graft
from tests.support.pictures import encode, picture

HEAVY = ("keras", "tensorflow", "h5py")


def tree(folder):
    """All paths below a folder, with their sizes."""
    return {
        (str(p.relative_to(folder)), p.lstat().st_size if p.is_file() else 0)
        for p in folder.rglob("*")
    }


def refused(path, home, **options) -> str:
    """The sentence with which something is refused; nothing is left of it, and nothing ran."""
    hostile_models.CANARY.unlink(missing_ok=True)
    before, loaded = tree(home), set(sys.modules)
    with pytest.raises(GraftError) as error:
        imports.add(path, home, **options)
    assert tree(home) == before
    assert not hostile_models.CANARY.exists()
    assert not {name for name in set(sys.modules) - loaded if name.split(".")[0] in HEAVY}
    sentence = str(error.value)
    assert "\n" not in sentence and len(sentence) < 600 and "Traceback" not in sentence
    return sentence


@pytest.mark.parametrize("make", hostile_models.REFUSED, ids=lambda make: make.__name__)
def test_hostile_files_run_nothing_and_get_a_sentence(make, own_home, tmp_path, monkeypatch):
    path = hostile_models.write(make, tmp_path)
    if make not in hostile_models.LOADED:  # they are found out before a process is started
        monkeypatch.setattr(keras_file.subprocess, "Popen", None)
    sentence = refused(path, own_home)
    assert sentence.startswith(f"{path.name} is not imported: ")
    assert not re.search(r"stopped unexpectedly \(|Popen|not callable", sentence), sentence


def test_a_hostile_file_leaves_a_process_of_its_own_untouched(own_home, tmp_path):
    path = hostile_models.write(hostile_models.lambda_by_name, tmp_path)
    code = (
        "import sys; from engine.imports import imports\n"
        "try: imports.add(sys.argv[1], sys.argv[2])\n"
        "except imports.GraftError as error: print(error)\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path, own_home], capture_output=True, text=True
    )
    sentence, heavy = done.stdout.splitlines()
    assert "calls functions it names" in sentence and heavy == "[]"


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("old.h5", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("model.pkl", b"\x80\x04", "pickle"),
        ("model.pt", b"PK\3\4", "pickle"),
        ("model.tflite", b"\0\0\0\0TFL3", "layers"),
        ("photo.keras", encode(picture()), "neither a .keras file"),
        ("photos.zip", None, "not a finished run"),
    ],
)
def test_what_is_no_model_gets_a_sentence(name, content, words, own_home, tmp_path):
    path = tmp_path / name
    if content is None:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("red/1.png", encode(picture()))
    else:
        path.write_bytes(content)
    assert words in refused(path, own_home)


def test_folders_and_options_that_do_not_fit_get_a_sentence(own_home, tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"graph")
    assert "SavedModel" in refused(tmp_path / "saved", own_home)
    assert "there is no" in refused(tmp_path / "nothing", own_home)
    run = crafted_models.good_run(tmp_path / "run")
    assert "leave the option out" in refused(run, own_home, preprocessing="tf")
    any_size = crafted_models.keras_file(tmp_path / "any.keras", crafted_models.config(side=None))
    assert "--image-size" in refused(any_size, own_home)
    (run / "status.json").write_text('{"status": "running"}')
    assert "only a finished run" in refused(run, own_home)


def test_labels_that_cannot_be_used_get_a_sentence(tmp_path):
    path = tmp_path / "labels.txt"
    for content, words in (
        (b"red\n" * 1_000_000, "larger than"),
        (b"red\nred\n", "differ"),
        (b"red\n", "two or more"),
        (b"\xff\xfe\0\1", "not a text file"),
        (b"a\x1b[31m\nb\n", "cannot be shown"),
        (b"a" * 1000 + b"\nb\n", "too long"),
    ):
        path.write_bytes(content)
        with pytest.raises(GraftError, match=words):
            imports.read_labels(path)


def test_what_needs_more_memory_than_an_import_may_take_is_a_sentence(
    own_home, tmp_path, monkeypatch
):
    """It has 12 weights, and puts out 31 million numbers on the way."""
    monkeypatch.setattr(keras_file, "MEMORY", 700 * 2**20)
    wide = crafted_models.layer("UpSampling2D", "wide", "pixels", size=[100, 100])
    path = crafted_models.keras_file(tmp_path / "wide.keras", crafted_models.config(wide))
    assert "more memory than" in refused(path, own_home)
    wider = crafted_models.layer("UpSampling2D", "wide", "pixels", size=[1000, 1000])
    path = crafted_models.keras_file(tmp_path / "wider.keras", crafted_models.config(wider))
    assert "values per image" in refused(path, own_home)


def test_a_run_and_its_model_alone_answer_alike_elsewhere(trained_run, own_home, tmp_path):
    photos = [row["path"] for row in trained_run.examples()][:12]
    expected = Classifier(trained_run).predict(photos)
    copied = tmp_path / "copied"
    shutil.copytree(trained_run.path, copied)
    # It must not be looked at: LiteRT would run whatever it says.
    (copied / "inference.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "copied")
    alone = shutil.copy(copied / "final.keras", tmp_path / "alone.keras")

    whole = imports.add(packed, own_home).run
    single = imports.add(alone, own_home, name="flat", labels=trained_run.classes).run
    temperature = Classifier(trained_run).temperature
    for run in (whole, single):
        assert run == runs.get_run(own_home, run.id) and run.finished and run.status == "finished"
        assert run.environment["imported_from"]["sha256"]
        classifier = Classifier(run)
        # Alone, it comes without its temperature.
        classifier.temperature = temperature
        for ours, theirs in zip(classifier.predict(photos), expected, strict=True):
            assert ours.top(1)[0][0] == theirs.top(1)[0][0]
            assert np.abs(ours.probabilities - theirs.probabilities).max() <= 1e-4
            assert np.abs(ours.features - theirs.features).max() <= 1e-3
    assert whole.recipe == trained_run.recipe and single.recipe.name == "flat"
    assert whole.evaluation == trained_run.evaluation and whole.stages() == trained_run.stages()
    kept, own = ([row["name"] for row in run.examples()] for run in (whole, trained_run))
    assert kept == own
    assert whole.architecture["blocks"] == trained_run.architecture["blocks"]
    assert {run.id for run in runs.list_runs(own_home)} == {whole.id, single.id}


def test_a_plain_keras_file_from_the_command_line(own_home, tmp_path):
    """It takes images of any size, scaled to -1 to 1, and gives logits."""
    path = crafted_models.keras_file(
        tmp_path / "colours.keras", crafted_models.config(side=None, activation="linear"),
        crafted_models.weights(np.eye(3, dtype="f4"), np.array([0, 0.5, 0], "f4")),
    )  # fmt: skip
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    wanted = ["--image-size", 48, "--preprocessing", "tf", "--labels", tmp_path / "labels.txt"]
    done = graft("import", path, *wanted, home=own_home)
    assert done.returncode == 0, done.stderr
    assert "softmax was added after it" in done.stderr
    run = runs.get_run(own_home, done.stdout.strip().splitlines()[-1])
    assert run.recipe.name == "colours" and run.recipe.image_size == 48
    assert run.classes == ["red", "green", "blue"]

    answer = Classifier(run).predict([Image.new("RGB", (60, 40), (200, 30, 90))])[0]
    logits = np.array([200, 30, 90]) / 127.5 - 1 + np.array([0, 0.5, 0])
    expected = np.exp(logits) / np.exp(logits).sum()
    assert np.abs(answer.probabilities - expected).max() < 1e-5
    assert np.abs(answer.features - (np.array([200, 30, 90]) / 127.5 - 1)).max() < 1e-4

    (tmp_path / "labels.txt").write_text("red\ngreen\n")
    done = graft("import", path, *wanted, home=own_home)
    assert done.returncode == 2 and "2 class names" in done.stderr
    assert json.loads(graft("runs", "--json", home=own_home).stdout)[0]["id"] == run.id


def test_a_member_whose_own_header_lies_gets_a_sentence(trained_run, own_home, tmp_path):
    path = tmp_path / "model.keras"
    content = bytearray((trained_run.path / "final.keras").read_bytes())
    with zipfile.ZipFile(trained_run.path / "final.keras") as archive:
        place = archive.getinfo("config.json").header_offset
    content[place : place + 4] = b"PK\x07\x08"  # no longer where a member begins
    path.write_bytes(content)
    assert "damaged" in refused(path, own_home)


def test_a_run_whose_figures_or_events_break_pages_is_refused_or_rid_of_them(
    trained_run, own_home, tmp_path
):
    from engine.runs.history import History

    source = tmp_path / "run"
    shutil.copytree(trained_run.path, source, ignore=shutil.ignore_patterns("exports"))
    figures = json.loads((source / "evaluation.json").read_text())
    wrong = figures | {"test": figures["test"] | {"confusion": []}}
    (source / "evaluation.json").write_text(json.dumps(wrong))
    with open(source / "events.jsonl", "a", encoding="utf-8") as log:
        log.write('{"event": "resume", "t": 1, "stage": "a", "epoch": 0, "step": 0, "text": "x"}\n')
        log.write('{"event": "batch", "t": 1, "stage": 0, "epoch": 0, "step": "many"}\n')
    with pytest.raises(GraftError, match="evaluation.json is of other classes"):
        imports.add(source, own_home)
    (source / "evaluation.json").write_text(json.dumps(figures))
    made = imports.add(source, own_home).run
    history = History()
    history.add(made.events()[0])
    assert history.latest["step"] == trained_run.events()[0][-1].get("step", history.latest["step"])
    assert len(made.stages()) == len(trained_run.stages())
