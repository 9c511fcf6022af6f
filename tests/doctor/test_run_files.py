"""Each file of a run, damaged in three ways: named in one sentence wherever it is read, found by
the doctor, and made again or moved aside by `doctor --fix`."""

import json

import pytest

from engine import home as homes
from engine.doctor import doctor, restore
from engine.errors import GraftError
from engine.exports import certify
from engine.host import manifest
from engine.predict import explanation, reference
from engine.predict.classifier import Classifier
from engine.runs import files, runs
from tests.support.cli import graft
from tests.support.damage import each_way, flip, half_or_byte, refused, remove, worse_than_ok
from tests.support.home_of_before import unpacked
from tests.support.pictures import encode, picture

FROM_KERAS = (files.ARCHITECTURE, files.LITERT, files.HEAD)


@pytest.fixture
def home(damaged_home):
    return damaged_home


@pytest.fixture
def run(home):
    return runs.list_runs(home)[0]


def fixed(home, path, restored):
    """`doctor --fix` leaves nothing wrong, keeps the damaged file, and says what it did."""
    damaged = path.read_bytes() if path.exists() else None
    done = doctor.fix(doctor.examine(home))
    said = [f"{each.text} {each.severity}" for each in done]
    assert len(done) == 1 and done[0].severity == "ok", said
    assert ("made again" in done[0].text) == restored and path.exists() == restored, said
    if damaged is not None:
        assert (home / restore.FOLDER / path.relative_to(home)).read_bytes() == damaged
    assert worse_than_ok(home) == []


def _reads(run, photo):
    """What notices each file of a run: a command, or a function that raises the sentence."""

    def answer():
        return next(iter(Classifier(run).stream([photo], keep_maps=True)))

    predict, show = ("predict", run.id, photo), ("show", run.id)
    first = run.examples()[0]["path"].relative_to(run.path)
    return {
        files.RECIPE: predict,
        files.ARCHITECTURE: predict,
        files.LITERT: predict,
        files.CONFIDENCE: predict,
        files.REFERENCE: predict,
        files.EVALUATION: show,
        files.EVENTS: show,
        files.ENVIRONMENT: (*show, "--json"),
        files.SPLIT: lambda: certify._validation(run, run.home),
        files.HEAD: lambda: explanation.grad_cam(run, answer(), run.classes[0]),
        reference.THUMBS: lambda: reference.of(run).thumbnail(0),
        f"{files.EXAMPLES}/{files.EXAMPLES_LIST}": run.examples,
        str(first): run.examples,
        files.KERAS: lambda: run.checked(files.KERAS),  # the exports' test reads it
    }


RUN_FILES = (
    files.RECIPE, files.ARCHITECTURE, files.LITERT, files.CONFIDENCE, files.REFERENCE,
    files.EVALUATION, files.EVENTS, files.ENVIRONMENT, files.SPLIT, files.HEAD, files.KERAS,
    reference.THUMBS, f"{files.EXAMPLES}/{files.EXAMPLES_LIST}", f"{files.EXAMPLES}/000.png",
)  # fmt: skip


def test_every_file_of_a_run_is_recorded_and_tried_here(run):
    # Other tests may have exported the shared run.
    more = (f"{files.EXAMPLES}/0", f"{files.EXPORTS}/")
    names = {name for name in files.lasting(run.path) if not name.startswith(more)}
    assert names == {name for name in RUN_FILES if not name.endswith("000.png")}
    assert set(manifest.recorded(run.path / files.MANIFEST)) == set(files.lasting(run.path))


@each_way
@pytest.mark.parametrize("name", RUN_FILES)
def test_a_damaged_file_of_a_run_is_named(home, run, tmp_path, name, damage):
    photo = tmp_path / "a.png"
    photo.write_bytes(encode(picture()))
    read = _reads(run, photo)[name]
    damage(run.path / name)
    if callable(read):
        with pytest.raises(GraftError, match=f"{name} is damaged.*doctor"):
            read()
    else:
        refused(graft(*read, home=home), name)
    [finding] = [each for each in worse_than_ok(home) if each.severity == "error"]
    assert name in finding.text and finding.remedy
    assert graft("doctor", home=home).returncode == 1
    assert graft("runs", home=home).returncode == 0, "the other runs stay listed"


@pytest.mark.parametrize("damage", [flip, remove], ids=lambda way: way.__name__)
@pytest.mark.parametrize("name", [n for n in RUN_FILES if n not in (files.RECIPE, files.KERAS)])
def test_a_damaged_file_of_a_run_is_made_again_or_moved_aside(home, run, name, damage, monkeypatch):
    if name in FROM_KERAS:
        pytest.skip("by a process that loads Keras: the test of the network below")
    damage(run.path / name)
    again = name in restore.RESTORED
    if name == files.EVENTS and damage is flip:  # the lines that can be read stay
        [done] = doctor.fix(doctor.examine(home))
        assert "a copy is" in done.text and run.stages() and (run.path / name).exists()
        return
    fixed(home, run.path / name, again)
    assert run.status == "finished" and Classifier(run).predict([picture()])[0].top(1)


@pytest.mark.slow
def test_the_network_of_a_run_is_made_again_from_final_keras(home, run, whole):
    before = Classifier(run).predict([picture()])[0]
    heat = explanation._head(run)
    for name in FROM_KERAS:
        flip(run.path / name)
    done = doctor.fix(doctor.examine(home))
    assert [each.severity for each in done] == ["ok"] * 3, [each.text for each in done]
    assert worse_than_ok(home) == []
    after = Classifier(run).predict([picture()])[0]
    assert abs(after.probabilities - before.probabilities).max() < 1e-4
    assert all((explanation._head(run)[key] == value).all() for key, value in heat.items())
    for name in (files.LITERT, files.KERAS):
        flip(run.path / name)
    doctor.fix(doctor.examine(home))
    left = [finding.text for finding in worse_than_ok(home)]
    assert [files.LITERT in left[0], files.KERAS in left[1], len(left)] == [True, True, 2]
    assert (home / restore.FOLDER / "runs" / run.id / files.KERAS).exists()


@each_way
def test_a_damaged_status_is_named_and_written_again_from_the_log(home, run, damage):
    damage(run.path / files.STATUS)
    assert files.STATUS in graft("show", run.id, home=home).stdout
    [finding] = worse_than_ok(home)
    assert files.STATUS in finding.text and finding.fixable
    doctor.fix([finding])
    assert worse_than_ok(home) == [] and run.status == "finished"


@half_or_byte
def test_a_damaged_record_is_named_and_made_again(home, run, tmp_path, damage):
    photo = tmp_path / "a.png"
    photo.write_bytes(encode(picture()))
    damage(run.path / files.MANIFEST)
    refused(graft("predict", run.id, photo, home=home), files.MANIFEST)
    [finding] = worse_than_ok(home)
    assert finding.text.startswith(f"{files.MANIFEST} of run {run.id} is damaged")
    doctor.fix([finding])
    assert worse_than_ok(home) == []
    assert graft("predict", run.id, photo, home=home).returncode == 0


def test_a_digit_that_changed_in_a_record_is_damage_of_the_record(home, run):
    found = homes.read_json(run.path / files.MANIFEST)
    digest = found["files"][files.LITERT]
    found["files"][files.LITERT] = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    (run.path / files.MANIFEST).unlink()
    (run.path / files.MANIFEST).write_text(json.dumps(found))
    assert [f"{files.MANIFEST} of run" in each.text for each in worse_than_ok(home)] == [True]


def test_a_recipe_that_only_looks_different_is_recorded_again(home, run):
    path = run.path / files.RECIPE
    text = path.read_text(encoding="utf-8")
    path.unlink()
    path.write_text(f"# a note\n{text}", encoding="utf-8")
    [finding] = worse_than_ok(home)
    assert finding.fixable and files.RECIPE in finding.text
    doctor.fix([finding])
    assert worse_than_ok(home) == [] and runs.get_run(home, run.id).recipe.name == "sample"


def test_a_run_without_a_record_works_as_before_and_can_be_recorded(home, run):
    (run.path / files.MANIFEST).unlink()
    assert Classifier(run).predict([picture()])[0].top(1)
    [finding] = [f for f in doctor.examine(home) if f.fixable]
    assert (finding.severity, "no record" in finding.text) == ("ok", True)
    doctor.fix([finding])
    assert set(manifest.recorded(run.path / files.MANIFEST)) == set(files.lasting(run.path))


def test_a_home_of_before_has_nothing_wrong_and_can_be_recorded(tmp_path):
    home, notes = unpacked(tmp_path)
    run = runs.get_run(home, notes["first"])
    about = [f for f in doctor.examine(home) if notes["first"] in f.text or "dataset" in f.text]
    assert {finding.severity for finding in about} == {"ok"}
    done = doctor.fix(about)
    assert len(done) > 1 and {each.severity for each in done} == {"ok"}
    assert manifest.changed(run.path / files.MANIFEST) == {}
    flip(run.path / files.LITERT)
    with pytest.raises(GraftError, match=files.LITERT):
        Classifier(run)
