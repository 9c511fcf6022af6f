"""Which functions of the engine change files, found in its source."""

import ast
import functools
from pathlib import Path

from tests.support import ROOT

_WRITING = {"write_json", "replacing", "write_text", "write_bytes", "unlink", "rmtree", "touch"}
_WRITING |= {"rename", "mkstemp", "mkdtemp", "mkdir", "truncate", "fix"}
_JOBS = {"job", "self._job"}


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _names(tree: ast.AST) -> dict[str, str]:
    """{name in this file: full name of what it stands for} of all imports."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {each.asname or each.name: each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {e.asname or e.name: f"{node.module}.{e.name}" for e in node.names}
    return found


def _references(node: ast.AST, names: dict[str, str], module: str) -> set[str]:
    """Full names of what a piece of code names: calls, and functions that it passes on."""
    found = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name):
            found.add(f"{names.get(each.value.id, each.value.id)}.{each.attr}")
        elif isinstance(each, ast.Name):
            found.add(names.get(each.id, f"{module}.{each.id}"))
    return found


def _writes(node: ast.AST) -> bool:
    """Whether a function itself changes a file, or starts or ends a background job."""
    for each in ast.walk(node):
        if not isinstance(each, ast.Call):
            continue
        name = getattr(each.func, "attr", None) or getattr(each.func, "id", "")
        if name in _WRITING:
            return True
        on = ast.unparse(each.func.value) if isinstance(each.func, ast.Attribute) else ""
        if name in ("replace", "move") and on in ("os", "shutil"):
            return True
        if name.endswith("transaction") and not any(k.arg == "write" for k in each.keywords):
            return True  # for reading, the engine says write=False
        if name in ("start", "cancel") and on.split("(")[0].strip("_").lower() in _JOBS:
            return True
        modes = [a.value for a in each.args if isinstance(a, ast.Constant)]
        if name == "open" and any(mode in ("w", "a", "wb", "ab", "r+b") for mode in modes):
            return True
    return False


@functools.cache
def writers() -> set[str]:
    """Full names of the functions of `engine` that change files, themselves or by others."""
    calls, found = {}, set()
    for path in (ROOT / "engine").rglob("*.py"):
        module, tree = _module(path), ast.parse(path.read_text("utf-8"))
        names = _names(tree)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                full = f"{module}.{node.name}"
                used = _references(node, names, module) - {full}
                # One that only reads says so where it is used (`_writes`).
                calls[full] = {name for name in used if not name.endswith("transaction")}
                if _writes(node):
                    found.add(full)
    while new := {name for name, used in calls.items() if used & found} - found:
        found |= new
    return found


@functools.cache
def used(path: Path) -> set[str]:
    """Full names of all that a file names."""
    tree = ast.parse(path.read_text("utf-8"))
    return _references(tree, _names(tree), _module(path))
