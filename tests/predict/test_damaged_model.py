"""A run whose model file was damaged: one sentence wherever it is asked, and no figure of it."""

import json
import shutil

import numpy as np
import pytest

from engine import home as homes
from engine.doctor import doctor
from engine.errors import DamagedModel, RunError
from engine.host import background
from engine.predict import batches, calibrate, calibration, explanation, reference
from engine.predict.classifier import Classifier
from engine.runs import files, runs
from tests.support.cli import graft
from tests.support.pages import from_source, open_page
from tests.support.pictures import encode, picture
from tests.support.serve import call, endpoint, form

NO_ANSWER = "its answers are not probabilities"


@pytest.fixture
def run(own_home, trained_run):
    """A copy of the trained run, in a home of its own."""
    path = own_home / "runs" / trained_run.id
    shutil.copytree(trained_run.path, path)
    datasets = trained_run.path.parents[1] / "datasets"
    shutil.copytree(datasets, own_home / "datasets", dirs_exist_ok=True)
    return runs.Run(path)


def flip(run, number=400):
    """Turns bits of as many bytes of the network's file."""
    path = run.path / "inference.tflite"
    content = np.fromfile(path, np.uint8)
    content[np.random.default_rng(0).integers(0, len(content), number)] ^= 0xFF
    content.tofile(path)


@pytest.fixture
def silly(run):
    """A run whose network answers with what is not a number, and of which nobody noted what was
    written, as of one of an earlier version."""
    with np.load(run.path / explanation.HEAD) as head:
        before = head["logits_bias"]
    path = run.path / "inference.tflite"
    content = path.read_bytes()
    assert content.count(before.tobytes()) == 1
    path.write_bytes(content.replace(before.tobytes(), np.full_like(before, np.nan).tobytes()))
    (run.path / files.MANIFEST).unlink()
    return run


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode(picture()))
    return path


def test_a_byte_that_changed_later_is_found_before_anything_is_answered(run, own_home):
    assert Classifier(run).predict([picture()])[0].top(1)
    flip(run, 1)
    with pytest.raises(DamagedModel, match="not the file that was written.*train it again"):
        Classifier(run)
    found = [f for f in doctor.examine(own_home) if f.check == "models"]
    assert [f.severity for f in found] == ["error"]
    assert "inference.tflite" in found[0].text and "backup" in found[0].remedy


def test_a_run_that_lost_its_architecture_is_one_sentence(run):
    (run.path / "architecture.json").unlink()
    with pytest.raises(DamagedModel, match="architecture.json: it is missing.*train it again"):
        Classifier(run)


@pytest.mark.parametrize(
    "bad",
    [[np.nan, 1.0, 0.0], [1.5, -0.5, 0.0], [0.5, 0.2, 0.1], [np.inf, 0.0, 0.0], [0.5, 0.5], []],
)
def test_what_is_no_probability_is_no_answer(trained_run, monkeypatch, bad):
    model = Classifier(trained_run)
    model.classes = ["a", "b", "c"]
    given = [np.array(bad, np.float32), np.ones(4), np.ones((1, 1, 4))]
    monkeypatch.setattr(model, "_network", lambda pixels: given)
    with pytest.raises(DamagedModel, match=NO_ANSWER):
        model.predict([picture()])


def test_a_network_that_breaks_off_is_damaged(trained_run, monkeypatch):
    def broken(pixels):
        raise RuntimeError("Node number 3 (CONV_2D) failed to invoke.")

    model = Classifier(trained_run)
    monkeypatch.setattr(model, "_network", broken)
    with pytest.raises(DamagedModel, match=r"CONV_2D.*train it again"):
        model.predict([picture()])


def test_every_use_of_the_model_says_so(silly, own_home, photo):
    model = Classifier(silly)
    with pytest.raises(DamagedModel, match=NO_ANSWER):
        model.probabilities([photo])
    with pytest.raises(DamagedModel, match=NO_ANSWER):
        explanation.occlusion(model, picture(), model.classes[0])
    kept = [(silly.path / name).read_bytes() for name in (reference.FILE, calibration.FILE)]
    with pytest.raises(DamagedModel, match=NO_ANSWER):
        calibrate.remember(silly, own_home)
    assert kept == [(silly.path / name).read_bytes() for name in (reference.FILE, calibration.FILE)]


def test_commands_end_with_1_and_one_sentence(silly, own_home, photo, class_folder):
    (class_folder / "red").rename(class_folder / silly.classes[0])
    out = class_folder.parent / "answers.csv"
    for arguments in (
        ("predict", silly.id, photo),
        ("predict", silly.id, photo, "--json"),
        ("evaluate", silly.id, "--data", class_folder),
        ("batch", silly.id, class_folder, "--csv", out),
        ("calibrate", silly.id),
    ):
        done = graft(*arguments, home=own_home)
        assert done.returncode == 1, arguments
        assert done.stdout == "", arguments
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("error: ") and NO_ANSWER in last, arguments
        assert "(inference.tflite: " in last, arguments
        assert "Traceback" not in done.stderr, arguments
    assert not out.exists()


def test_a_flipped_file_ends_a_command_with_1(run, own_home, photo):
    flip(run)
    done = graft("predict", run.id, photo, home=own_home)
    assert done.returncode == 1 and done.stdout == ""
    assert "not the file that was written" in done.stderr


def test_the_page_says_so_once(silly, own_home, monkeypatch):
    monkeypatch.setenv("GRAFT_HOME", str(own_home))
    app = from_source(open_page("test", run=silly.id), "Test images of this run")
    assert [NO_ANSWER in error.value for error in app.error] == [True]
    assert not any("nan" in text.value.lower() for text in app.markdown)


def test_the_endpoint_answers_with_an_error(silly):
    with endpoint(silly) as (port, _):
        status, _, found = call(port, "POST", "/classify", *form(("a.png", encode(picture()))))
        assert status == 500 and list(found) == ["error"] and NO_ANSWER in found["error"]
        told = call(port, "GET", "/openapi.json")[2]["paths"]["/classify"]["post"]["responses"]
        assert "500" in told


def test_a_batch_fails_with_the_sentence_and_keeps_no_row_of_it(silly, own_home, monkeypatch):
    files = [(f"{i}.png", encode(picture(seed=i))) for i in range(3)]
    batch = batches.start(own_home, silly, files, "three")
    state = background.wait_for(batch.state)
    assert state["state"] == "failed" and NO_ANSWER in state["error"]
    assert batch.rows() is None
    monkeypatch.setenv("GRAFT_HOME", str(own_home))
    app = open_page("test", run=silly.id, batch=batch.key)
    assert [NO_ANSWER in error.value for error in app.error] == [True]


@pytest.mark.parametrize("temperature", ["NaN", "-1.0", "0", "Infinity"])
def test_a_temperature_that_is_none_is_a_sentence_and_can_be_made_again(
    run, own_home, photo, temperature
):
    kept = homes.read_json(run.path / calibration.FILE)
    text = json.dumps(kept | {"temperature": "here"}).replace('"here"', temperature)
    (run.path / calibration.FILE).write_text(text)
    with pytest.raises(RunError, match=f"temperature.*python -m engine calibrate {run.id}"):
        Classifier(run)
    if temperature == "NaN":
        assert graft("calibrate", run.id, home=own_home).returncode == 0
        assert Classifier(run).predict([photo])[0].top(1)
