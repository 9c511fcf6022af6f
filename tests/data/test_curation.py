"""Curation: decisions change the training images, never a file; undo, history, CSV, fingerprint."""

import csv
import io

import numpy as np
import pytest

from engine.data import curation, datasets, prepare_worker
from engine.data.sources import collection
from engine.errors import DatasetError
from engine.recipe import DatasetSpec, SplitSpec, load_preset
from engine.runs import runs


@pytest.fixture
def spec(class_folder, own_home):
    """A folder of 36 pictures in three classes, prepared."""
    made = DatasetSpec(source="folder", path=str(class_folder))
    prepare_worker.ingest(made, own_home)
    return made


def opened(spec, home, identity):
    return datasets.open_dataset(spec.model_copy(update={"overlay": identity}), home)


def test_excluded_relabelled_and_moved_images_change_the_dataset_and_not_the_files(
    spec, own_home, class_folder
):
    files = {p: p.read_bytes() for p in class_folder.rglob("*.jpg")}
    dataset = opened(spec, own_home, "")
    parts = dataset.split(SplitSpec())
    gone, wrong, away = 0, 13, int(parts["train"][-1])
    ids = [curation.decide(own_home, spec, "", curation.decisions(dataset, [gone], "exclude"))]
    ids.append(
        curation.decide(own_home, spec, "", curation.decisions(dataset, [wrong], "relabel", "red"))
    )
    ids.append(
        curation.decide(
            own_home, spec, "", curation.decisions(dataset, [away], "move", "test", parts)
        )
    )
    after = opened(spec, own_home, ids[-1])
    assert len(after) == 35 and dataset.contents[gone] not in after.contents
    assert after.classes[after.labels[after.names.index(dataset.names[wrong])]] == "red"
    assert after.names.index(dataset.names[away]) in after.split(SplitSpec())["test"]
    for i in (0, 5, 34):
        assert after.image_bytes(i) == dataset.image_bytes(int(after.rows[i]))
    prints = {opened(spec, own_home, i).fingerprint for i in ["", *ids]}
    assert len(prints) == 4
    assert datasets.fingerprint(spec, own_home) == dataset.fingerprint
    assert files == {p: p.read_bytes() for p in class_folder.rglob("*.jpg")}
    expected = "1 left out, 1 relabelled, 1 moved to another part"
    assert curation.in_words(own_home, ids[-1]) == expected


def test_what_is_decided_about_some_images_moves_no_other_one(own_home):
    spec = DatasetSpec(source="sample", images=300)
    dataset = prepare_worker.ingest(spec, own_home)
    recipe_split = SplitSpec(test=20, validation=15, train=65)
    before = dataset.split(recipe_split)
    part = {dataset.names[i]: p for p, members in before.items() for i in members.tolist()}
    gone = [*before["test"][:9].tolist(), *before["train"][:30].tolist()]
    other = [int(before["validation"][0]), int(before["train"][40])]
    curation.decide(own_home, spec, "", curation.decisions(dataset, gone, "exclude"))
    made = [d for i in other for d in curation.decisions(dataset, [i], "relabel", "teacup")]
    after = opened(spec, own_home, curation.decide(own_home, spec, "", made))
    now = {after.names[i]: p for p, m in after.split(recipe_split).items() for i in m.tolist()}
    left = {dataset.names[i] for i in gone}
    assert now == {name: p for name, p in part.items() if name not in left}


def test_any_step_can_be_undone_and_done_again_and_the_same_decisions_have_the_same_id(
    spec, own_home
):
    dataset = opened(spec, own_home, "")

    def leave_out(*indices):
        return curation.decide(
            own_home, spec, f"{indices}", curation.decisions(dataset, indices, "exclude")
        )

    first = leave_out(1)
    both = leave_out(2, 3)
    only_second = curation.undo(own_home, spec, 1)
    assert only_second not in (first, both) and len(opened(spec, own_home, only_second)) == 34
    assert curation.undo(own_home, spec, again=True) == both
    assert curation.undo(own_home, spec) == first
    assert curation.undo(own_home, spec) == "" == curation.current(own_home, spec)
    assert [step.undone for step in curation.steps(own_home, spec)] == [True, True]
    with pytest.raises(DatasetError, match="no step to undo"):
        curation.undo(own_home, spec)
    back = curation.decisions(dataset, [1], "include")
    assert leave_out(1) == first and curation.decide(own_home, spec, "back", back) == ""


def test_what_would_leave_too_little_is_refused_in_one_sentence_and_changes_nothing(spec, own_home):
    dataset = opened(spec, own_home, "")
    two = np.flatnonzero(dataset.labels < 2)
    with pytest.raises(DatasetError, match="leave 1 class, and at least two"):
        curation.decide(own_home, spec, "", curation.decisions(dataset, two, "exclude"))
    with pytest.raises(DatasetError, match="'purple' is not one of blue, green or red"):
        curation.decide(own_home, spec, "", curation.decisions(dataset, [0], "relabel", "purple"))
    with pytest.raises(DatasetError, match="no image is selected"):
        curation.decide(own_home, spec, "", [])
    assert curation.steps(own_home, spec) == [] and curation.current(own_home, spec) == ""


def test_a_class_left_without_images_is_none_and_a_changed_file_voids_its_decision(
    spec, own_home, class_folder
):
    dataset = opened(spec, own_home, "")
    blue = np.flatnonzero(dataset.labels == 0)
    identity = curation.decide(own_home, spec, "", curation.decisions(dataset, blue, "exclude"))
    assert opened(spec, own_home, identity).classes == ("green", "red")
    other = (class_folder / "red" / "00.jpg").read_bytes()
    (class_folder / "blue" / "00.jpg").write_bytes(other)
    prepare_worker.ingest(spec, own_home)
    assert opened(spec, own_home, identity).classes == ("blue", "green", "red")


def test_csv_names_every_decision_that_holds_and_no_name_becomes_a_formula(class_folder, own_home):
    (class_folder / "red" / "00.jpg").rename(class_folder / "red" / "=1+1.jpg")
    (class_folder / "red").rename(class_folder / "-red")
    spec = DatasetSpec(source="folder", path=str(class_folder))
    dataset = prepare_worker.ingest(spec, own_home)
    curation.decide(own_home, spec, "a", curation.decisions(dataset, [0, 1], "exclude"))
    curation.decide(own_home, spec, "b", curation.decisions(dataset, [2], "relabel", "blue"))
    curation.decide(own_home, spec, "c", curation.decisions(dataset, [1], "include"))
    rows = list(csv.DictReader(io.StringIO(curation.to_csv(own_home, spec))))
    assert [(r["action"], r["why"]) for r in rows] == [("exclude", "a"), ("relabel", "b")]
    assert rows[0]["name"].startswith("'-red") and rows[0]["sha256"] == dataset.contents[0]
    assert rows[1]["to"] == "blue" and rows[1]["before"] == "'-red"


def test_decisions_go_with_the_images_into_a_dataset_that_extends_theirs(spec, own_home):
    dataset = opened(spec, own_home, "")
    identity = curation.decide(own_home, spec, "", curation.decisions(dataset, [0, 13], "exclude"))
    extended = collection.create(own_home, "more", spec)
    curation.adopt(own_home, extended, identity, "taken over")
    prepare_worker.ingest(extended, own_home)
    taken = opened(extended, own_home, curation.current(own_home, extended))
    assert len(taken) == 34 and not {dataset.names[0], dataset.names[13]} & set(taken.names)


def test_a_torn_last_line_loses_that_step_alone(spec, own_home):
    dataset = opened(spec, own_home, "")
    first = curation.decide(own_home, spec, "", curation.decisions(dataset, [0], "exclude"))
    path = next((own_home / "curation").glob("*.jsonl"))
    with open(path, "ab") as file:
        file.write(b'{"t": 1, "text": "cut o')
    assert curation.current(own_home, spec) == first
    curation.decide(own_home, spec, "", curation.decisions(dataset, [1], "exclude"))
    assert len(curation.steps(own_home, spec)) == 2


def test_a_run_says_exactly_what_it_was_trained_on(spec, own_home):
    dataset = opened(spec, own_home, "")
    identity = curation.decide(own_home, spec, "", curation.decisions(dataset, [4], "exclude"))
    recipe = load_preset("sample").from_dict(
        load_preset("sample").to_dict() | {"dataset": spec.model_dump() | {"overlay": identity}}
    )
    run = runs.create(recipe, own_home)
    assert dataset.names[4] in (run.path / "overlay.json").read_text()
    assert run.decisions == "1 left out" == run.summary()["decisions"]
    bad = recipe.from_dict(
        recipe.to_dict() | {"dataset": spec.model_dump() | {"overlay": "0" * 16}}
    )
    with pytest.raises(DatasetError, match="are not on this host"):
        runs.create(bad, own_home)


def test_the_command_line_decides_undoes_and_writes_csv(spec, own_home, class_folder):
    from typer.testing import CliRunner

    from engine.cli.main import app

    def call(*arguments):
        return CliRunner().invoke(
            app, ["curate", str(class_folder), *arguments, "--home", own_home]
        )

    made = call("--leave-out", "red/00.jpg", "--relabel", "blue/01.jpg=green")
    assert made.exit_code == 0 and "1 left out, 1 relabelled" in made.output
    identity = curation.current(own_home, spec)
    assert f"dataset.overlay={identity}" in made.output
    path = own_home / "out.csv"
    assert call("--csv", str(path)).exit_code == 0 and "red/00.jpg" in path.read_text()
    assert "There are no decisions" in call("--undo", "0").output
    assert call("--redo", "1").exit_code == 0 and curation.current(own_home, spec) == identity
    wrong = call("--leave-out", "red/none.jpg")
    assert "the dataset has no image 'red/none.jpg'" in str(wrong.exception)
