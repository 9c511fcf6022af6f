"""The trash: a deleted run is never lost before it is deleted for good."""

import json
from pathlib import Path

import pytest

from engine.errors import RunError
from engine.home import home as make_home
from engine.recipe import load_preset
from engine.runs import runs, trash
from tests.support.cli import graft


@pytest.fixture
def home(tmp_path):
    """An empty home."""
    return make_home(tmp_path / "home")


@pytest.fixture
def run(home):
    """A run that was stopped."""
    made = runs.create(load_preset("sample", ["name=tulips"]), home)
    made.update(status="stopped")
    (made.path / "worker.log").write_bytes(b"x" * 5000)
    return made


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_deleted_run_lies_in_the_trash_and_comes_back_as_it_was(home, run):
    before, size = contents(run.path), run.size
    assert size == sum(len(data) for data in before.values())
    trash.delete(run)
    assert runs.list_runs(home) == []
    [found] = trash.listed(home)
    assert (found.id, found.name, found.bytes) == (run.id, "tulips", size)
    assert found.deleted > 0
    assert trash.restore(home, run.id) == run
    assert contents(run.path) == before
    assert trash.listed(home) == []
    assert runs.list_runs(home) == [run]


def test_an_active_run_is_not_deleted(home, run):
    run.update(status="queued")
    with pytest.raises(RunError, match="stop it before deleting"):
        trash.delete(run)
    assert run.path.exists()


def test_a_run_that_has_gone_is_a_sentence(run):
    trash.delete(run)
    with pytest.raises(RunError, match="no longer there"):
        trash.delete(run)


def test_a_restore_never_overwrites_a_run(home, run):
    kept = contents(run.path)
    trash.delete(run)
    run.path.mkdir()
    (run.path / "recipe.yaml").write_bytes(kept[Path("recipe.yaml")])
    with pytest.raises(RunError, match=f"there is already a run {run.id}"):
        trash.restore(home, run.id)
    assert list(contents(run.path)) == [Path("recipe.yaml")]
    assert contents(trash.find(home, run.id)) == kept


def test_the_same_id_twice_in_the_trash_restores_the_one_deleted_last(home, run):
    recipe = (run.path / "recipe.yaml").read_text()
    trash.delete(run)
    run.path.mkdir()
    (run.path / "recipe.yaml").write_text(recipe.replace("tulips", "roses"))
    trash.delete(run)
    assert [each.id for each in trash.listed(home)] == [run.id, run.id]
    assert runs.Run(trash.restore(home, run.id).path).recipe.name == "roses"
    assert [each.name for each in trash.listed(home)] == ["tulips"]


def test_emptying_deletes_one_or_all_for_good(home, run):
    other = runs.create(run.recipe, home)
    other.update(status="failed")
    for each in (run, other):
        trash.delete(each)
    count, freed = trash.empty(home, run.id)
    assert (count, freed > 5000) == (1, True)
    assert [each.id for each in trash.listed(home)] == [other.id]
    assert trash.empty(home)[0] == 1
    assert list((home / "trash").iterdir()) == []
    assert trash.empty(home) == (0, 0)


def test_unknown_runs_are_a_sentence(home):
    for act in (trash.restore, trash.empty):
        with pytest.raises(RunError, match="no run 'none' in the trash"):
            act(home, "none")


def test_asking_for_a_deleted_run_says_where_it_is(home, run):
    trash.delete(run)
    with pytest.raises(RunError, match="is in the trash; restore it"):
        runs.get_run(home, run.id)


def test_a_run_whose_recipe_is_damaged_can_be_deleted_and_keeps_its_id_as_name(home, run):
    (run.path / "recipe.yaml").write_bytes(b"\xff\x00 no recipe")
    whole, damaged = runs.readable_runs(home)
    assert (whole, [name for name, _ in damaged]) == ([], [run.id])
    trash.delete(runs.get_run(home, run.id))
    assert [each.name for each in trash.listed(home)] == [run.id]


def test_one_torn_status_breaks_neither_the_list_nor_the_run(home, run):
    torn = runs.create(run.recipe, home)
    (torn.path / "status.json").write_text('{"status": "fini')
    for damage in ('{"status": "fini', "", "[]", '{"status": "lost"}'):
        (torn.path / "status.json").write_text(damage)
        assert set(runs.list_runs(home)) == {run, torn}
        assert torn.status == "failed"
        assert "status.json" in torn.error
        assert "doctor" in torn.error
    torn.update(status="stopped")
    assert torn.status == "stopped"


def test_the_command_line_deletes_lists_restores_and_empties(home, run):
    done = graft("delete", run.id, home=home)
    assert done.returncode == 0
    assert f"python -m engine restore {run.id}" in done.stderr
    assert [each["id"] for each in json.loads(graft("trash", "--json", home=home).stdout)] == [
        run.id
    ]
    assert "tulips" in graft("trash", home=home).stdout
    assert graft("restore", run.id, home=home).returncode == 0
    assert run.path.exists()
    refused = graft("restore", run.id, home=home)
    assert refused.returncode == 2
    assert "in the trash" in refused.stderr
    graft("delete", run.id, home=home)
    assert "Deleted 1 run for good" in graft("trash", "--empty", home=home).stderr
    assert json.loads(graft("trash", "--json", home=home).stdout) == []


def test_the_command_line_lists_runs_beside_a_damaged_one(home, run):
    other = runs.create(run.recipe, home)
    other.update(status="finished")
    (other.path / "evaluation.json").write_text("{")
    third = runs.create(run.recipe, home)
    (third.path / "recipe.yaml").write_text("nonsense: [")
    done = graft("runs", home=home)
    assert done.returncode == 0
    assert run.id in done.stdout
    assert "damaged" in done.stdout
    assert third.id in done.stderr
    rows = {row["id"]: row for row in json.loads(graft("runs", "--json", home=home).stdout)}
    assert "is damaged" in rows[other.id]["error"]
    assert rows[run.id]["status"] == "stopped"
