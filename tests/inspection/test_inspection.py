"""Inspecting a dataset: planted faults are found, decisions count, nothing is done twice."""

import json
import shutil
import threading

import numpy as np
import pytest

from engine.data import curation, datasets, prepare_worker
from engine.data.sources import sample
from engine.inspection import findings, inspection
from engine.recipe import DatasetSpec, SplitSpec, load_preset
from tests.support import planted
from tests.support.cli import graft
from tests.support.real_data import has_real_data

PHOTOS = 600
OWN_PARTS = SplitSpec(method="source")


def _photos(home):
    """tf_flowers photos, or drawings of the sample where there are none."""
    if not has_real_data():
        return [(sample.CLASSES[label], data) for _, label, data in sample.generate(PHOTOS)]
    spec = DatasetSpec(source="tfds", name="tf_flowers")
    datasets.prepare(spec, home)
    while datasets.state(spec, home)["state"] == "preparing":
        threading.Event().wait(0.1)
    photos = datasets.open_dataset(spec, home)
    chosen = np.random.default_rng(0).choice(len(photos), PHOTOS, replace=False)
    return [(photos.classes[photos.labels[i]], photos.image_bytes(i)) for i in chosen]


class Inspected:
    """A planted dataset that was inspected in the background, as a page does it."""

    def __init__(self, home, folder, recipe):
        self.home, self.recipe = home, recipe
        self.planted = planted.plant(_photos(home), folder)
        self.spec = DatasetSpec(source="folder", path=str(folder))
        prepare_worker.ingest(self.spec, home)
        inspection.start(self.spec, home, recipe)
        ended = inspection.wait(self.spec, home, recipe)
        assert ended["state"] == "done", ended["error"]

    def open(self, overlay=""):
        """(dataset, inspection) with decisions."""
        spec = self.spec.model_copy(update={"overlay": overlay})
        return (
            datasets.open_dataset(spec, self.home),
            inspection.open_inspection(spec, self.home, self.recipe),
        )

    def find(self, overlay="", split=OWN_PARTS):
        """(dataset, {kind: Finding}) with decisions."""
        dataset, seen = self.open(overlay)
        parts = dataset.split(split) if split else None
        return dataset, {f.kind: f for f in findings.find(dataset, seen, parts)}


@pytest.fixture(scope="module")
def inspected(graft_home, tmp_path_factory):
    """Faults planted among real photos, or among drawings, inspected with features."""
    recipe = load_preset("flowers" if has_real_data() else "sample")
    return Inspected(graft_home, tmp_path_factory.mktemp("planted"), recipe)


def test_planted_faults_are_found(inspected, capsys):
    dataset, found = inspected.find()
    scores = planted.scores(inspected.planted, dataset, list(found.values()))
    with capsys.disabled():
        where = "tf_flowers photos" if has_real_data() else "drawings"
        print(f"\n{PHOTOS} {where}\n{'kind':20}planted  recall  precision")
        for kind, (recall, precision) in scores.items():
            print(f"{kind:20}{planted.COUNTS[kind]:7}{recall:8.2f}{precision:11.2f}")
    for kind in ("unreadable", "exact_duplicates", "too_dark", "blurry", "tiny_class"):
        assert scores[kind][0] == 1, kind
    assert scores["unreadable"][1] == scores["too_dark"][1] == 1
    # The photos have copies of their own, each looked at and true: a few of 28 pairs among 3,458.
    assert scores["near_duplicates"][0] >= 0.9 and scores["near_duplicates"][1] >= 0.8
    suspects = [dataset.names[i] for i in planted.suspects(found)[:30].tolist()]
    assert len(set(suspects) & set(inspected.planted.labels)) >= 8
    assert all(f.count and f.advice and f.title for f in found.values())


def test_copies_in_two_parts_are_leakage_until_they_are_decided_on(inspected):
    dataset, found = inspected.find()
    leaks = found["leakage"]
    copies = {frozenset(pair) for pair in inspected.planted.originals.items()}
    assert copies <= planted.named(inspected.planted, dataset, leaks, "leakage")
    assert "train" in leaks.title and "test" in leaks.title and leaks.severity == "high"
    assert "split.group_by: copies" in leaks.advice and "gives up" in leaks.advice

    # Leaving out what is suggested ends it, and takes one of each pair away: the one in train.
    out = findings.suggested_exclusions(leaks, dataset)
    names = {dataset.names[i] for i in out.tolist()}
    assert set(inspected.planted.originals.values()) <= names
    assert not names & set(inspected.planted.originals)
    made = curation.decisions(dataset, out, "exclude")
    curated, after = inspected.find(curation.decide(inspected.home, inspected.spec, "copies", made))
    assert "leakage" not in after and len(curated) == len(dataset) - len(out)
    curation.undo(inspected.home, inspected.spec)

    # So does moving each group into one part.
    members = np.concatenate(leaks.groups)
    made = curation.decisions(dataset, members, "move", "train")
    overlay = curation.decide(inspected.home, inspected.spec, "together", made)
    _, after = inspected.find(overlay)
    assert (
        "leakage" not in after
        and after["exact_duplicates"].count == found["exact_duplicates"].count
    )
    curation.undo(inspected.home, inspected.spec)


def test_the_same_picture_under_two_labels_is_named_and_neither_is_thrown_away(inspected):
    dataset, found = inspected.find()
    group = found["exact_duplicates"].groups[0]
    other = next(c for c in dataset.classes if c != dataset.classes[dataset.labels[group[0]]])
    made = curation.decisions(dataset, group[:1], "relabel", other)
    curated, after = inspected.find(curation.decide(inspected.home, inspected.spec, "wrong", made))
    curation.undo(inspected.home, inspected.spec)
    conflicts = [{curated.names[i] for i in g.tolist()} for g in after["label_conflict"].groups]
    assert {dataset.names[i] for i in group.tolist()} in conflicts
    assert not set(group) & set(findings.suggested_exclusions(after["exact_duplicates"], curated))
    assert not len(findings.suggested_exclusions(after["label_conflict"], curated))


def test_a_relabelled_image_is_no_longer_suspect(inspected):
    dataset, found = inspected.find()
    first = planted.suspects(found)[:1]
    other = next(c for c in dataset.classes if c != dataset.classes[dataset.labels[first[0]]])
    made = curation.decisions(dataset, first, "relabel", other)
    curated, after = inspected.find(curation.decide(inspected.home, inspected.spec, "label", made))
    curation.undo(inspected.home, inspected.spec)
    still = {curated.names[i] for i in planted.suspects(after).tolist()}
    assert dataset.names[first[0]] not in still
    assert len(still) == len(planted.suspects(found)) - 1


def test_findings_need_no_split(inspected):
    _, found = inspected.find(split=None)
    assert "leakage" not in found and planted.LONELY in found["tiny_class"].title
    assert {"exact_duplicates", "near_duplicates", "unreadable", "blurry"} <= set(found)


def test_an_inspection_is_kept_and_is_not_made_again(inspected):
    _, seen = inspected.open()
    kept = (inspected.home / "inspections" / seen.source_fingerprint[:24] / "pixels.npz").stat()
    inspection.start(inspected.spec, inspected.home, inspected.recipe)
    assert inspection.state(inspected.spec, inspected.home, inspected.recipe)["state"] == "done"
    assert (
        kept
        == (inspected.home / "inspections" / seen.source_fingerprint[:24] / "pixels.npz").stat()
    )


def test_the_command_line_lists_the_findings(inspected):
    recipe = ("--recipe", inspected.recipe.name)
    done = graft("inspect", inspected.planted.folder, "--json", *recipe, home=inspected.home)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    kinds = {f["kind"]: f for f in said["findings"]}
    assert sorted(kinds["too_dark"]["leave_out"]) == sorted(inspected.planted.names["too_dark"])
    assert {name for name, _ in said["dataset"]["unreadable"]} == set(
        inspected.planted.names["unreadable"]
    )
    doubted = kinds.get("mislabelled") or kinds["doubtful"]
    assert doubted["images"][0]["suggested"] in said["dataset"]["classes"]
    assert 0 < doubted["expected"] <= 1 and said["backbone"] in doubted["advice"]
    # The parts are those that training would have.
    assert said["division"].startswith("The source has its own train, validation and test.")
    dataset = datasets.open_dataset(inspected.spec, inspected.home)
    parts = dataset.split(inspected.recipe.split)
    for image in kinds["leakage"]["images"]:
        assert dataset.names.index(image["name"]) in parts[image["part"]]


def test_the_command_line_inspects_the_division_of_training(own_home, class_folder):
    """Also without its own parts and without a recipe; it names the files beside the classes."""
    (class_folder / "docs").mkdir()
    (class_folder / "docs" / "notes.txt").write_text("words")
    for part in ("train", "test"):
        for colour in ("red", "green", "blue"):
            target = class_folder / part / colour
            target.mkdir(parents=True)
            every = 1 if part == "train" else 4
            for file in sorted((class_folder / colour).glob("*.jpg"))[::every]:
                shutil.copy(file, target)
    for colour in ("red", "green", "blue"):
        shutil.rmtree(class_folder / colour)
    command = ("inspect", class_folder, "--pixels")
    done = graft(*command, home=own_home)
    assert done.returncode == 0, done.stderr
    assert "its own train and test; validation (15%) is taken from train" in done.stdout
    assert "docs/ (1 file) (Graft does not read .txt files)" in done.stderr
    said = json.loads(graft(*command, "--json", home=own_home).stdout)
    spec = DatasetSpec(source="folder", path=str(class_folder))
    dataset = datasets.open_dataset(spec, own_home)
    parts = dataset.split(load_preset("flowers").split)
    leaks = next(f for f in said["findings"] if f["kind"] == "leakage")["images"]
    assert {image["name"] for image in leaks if image["part"] == "test"} == {
        dataset.names[i] for i in parts["test"].tolist()
    }


def test_the_command_line_refuses_what_is_no_dataset(own_home):
    done = graft("inspect", "/nowhere/at/all", home=own_home)
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
