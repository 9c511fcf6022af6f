"""Text is UTF-8 whatever the locale."""

import ast

import pytest

from tests.support import ROOT

SOURCES = [ROOT / "app.py", *ROOT.glob("engine/**/*.py"), *ROOT.glob("pages/**/*.py")]


def unstated(tree):
    """Lines that read or write text in the encoding of the locale."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        stated = any(word.arg in ("encoding", None) for word in call.keywords)
        if name == "read_text" and not call.args or name == "write_text" and len(call.args) == 1:
            yield from [] if stated else [call.lineno]
        elif (
            isinstance(call.func, ast.Name) and name == "open" or name == "fdopen"
        ) and not stated:
            mode = getattr(call.args[1], "value", "r") if len(call.args) > 1 else "r"
            yield from [] if "b" in str(mode) else [call.lineno]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_text_file_states_its_encoding(path):
    assert list(unstated(ast.parse(path.read_text(encoding="utf-8")))) == []


def test_a_missing_encoding_is_found():
    text = (
        'open(p)\nopen(p, "w")\nopen(p, "rb")\np.read_text()\np.read_text("utf-8")\nq.write_text(t)'
        "\nos.fdopen(d, mode)"
    )
    assert list(unstated(ast.parse(text))) == [1, 2, 4, 6, 7]
