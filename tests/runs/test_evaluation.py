"""A run's evaluation, which many classes make large."""

import json

import pytest

from engine import home as homes
from engine import load_preset
from engine.errors import DamagedFile
from engine.runs import files, runs


def test_an_evaluation_is_read_again_when_its_file_changes(own_home):
    run = runs.create(load_preset("sample"), own_home)
    path = run.path / files.EVALUATION
    assert run.evaluation is None
    homes.write_json(path, {"test": {"n": 1}})
    assert run.evaluation == {"test": {"n": 1}} and run.evaluation is run.evaluation
    homes.write_json(path, {"test": {"n": 23}})
    assert run.evaluation == {"test": {"n": 23}}
    path.write_text("{", encoding="utf-8")
    with pytest.raises(DamagedFile):
        _ = run.evaluation


def test_a_matrix_of_many_classes_is_written_without_indentation(tmp_path):
    matrix = [[0] * 1000 for _ in range(1000)]
    homes.write_json(tmp_path / "a.json", matrix)
    assert (tmp_path / "a.json").stat().st_size < 3_100_000
    assert json.loads((tmp_path / "a.json").read_bytes()) == matrix
    homes.write_json(tmp_path / "b.json", {"a": [1]})
    assert (tmp_path / "b.json").read_text(encoding="utf-8") == '{\n "a": [\n  1\n ]\n}\n'
