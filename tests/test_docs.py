"""The documents that name files and symbols tell the truth."""

import ast
import json
import re

import pytest

from benchmarks import report
from tests.support import ROOT

ROW = re.compile(r"^\| (?P<question>[^|`]+) \| `(?P<file>[^`]+)` \| `(?P<name>[^`]+)` \|$", re.M)
PATH = re.compile(r"(?<![\w/.])((?:engine|pages|tests|docs|benchmarks)/[\w/.-]++)(?!\*)")
DOCUMENTS = ["README.md"] + [
    f"docs/{name}.md"
    for name in (
        "architecture",
        "contributing",
        "datasets",
        "export",
        "inspection",
        "reliability",
        "serving",
        "testing",
    )
]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def test_twenty_questions_and_more_are_answered():
    assert len(ROW.findall(ARCHITECTURE)) >= 20


@pytest.mark.parametrize("question, file, name", ROW.findall(ARCHITECTURE))
def test_the_answer_to_a_question_exists(question, file, name):
    tree = ast.parse((ROOT / file).read_text())
    kinds = (ast.FunctionDef, ast.ClassDef)
    assert name in {node.name for node in tree.body if isinstance(node, kinds)}, question


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_and_folders_that_are_named_exist(document):
    text = (ROOT / document).read_text()
    named = {path.rstrip(".") for path in PATH.findall(text) if "NAME" not in path}
    missing = [path for path in named if not (ROOT / path).exists()]
    assert named and not missing


def test_the_page_of_benchmarks_shows_the_measured_figures():
    docs = ROOT / "docs"
    results = json.loads((docs / "benchmarks.json").read_text())
    assert (docs / "benchmarks.md").read_text() == report.document(results)
