"""Names and paths on the command line: separators, quotes, Unicode forms, other locales."""

import json
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.cli.main import app
from engine.data import prepare_worker
from engine.errors import DatasetError
from engine.recipe import DatasetSpec
from tests.support.cli import graft_process
from tests.support.pictures import picture


def run(home, *arguments):
    """One command in this process; errors are raised."""
    done = CliRunner().invoke(app, [*map(str, arguments), "--home", str(home)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


@pytest.fixture
def odd_names(tmp_path, own_home):
    """A prepared folder whose classes and files have separators and accents."""
    for number, name in enumerate(("Cat", "a=b", "caf\u00e9 = t\u00e9")):
        (tmp_path / "odd" / name).mkdir(parents=True)
        for i in range(4):
            picture(seed=number * 10 + i).save(tmp_path / "odd" / name / f"{i}=.png")
    prepare_worker.ingest(DatasetSpec(source="folder", path=str(tmp_path / "odd")), own_home)
    return tmp_path / "odd"


def relabelled(home, folder, text):
    """(class, image) pairs after a relabelling on the command line."""
    found = json.loads(run(home, "curate", folder, "--relabel", text, "--json"))
    return [(d["to"], d["name"]) for d in found["steps"][-1]["decisions"]]


@pytest.mark.parametrize(
    ("name", "to"),
    [("Cat/0=.png", "a=b"), ("a=b/1=.png", "Cat"), ("a=b/2=.png", "caf\u00e9 = t\u00e9")],
)
def test_relabelling_splits_where_an_image_and_a_class_are_named(odd_names, own_home, name, to):
    assert relabelled(own_home, odd_names, f"{name}={to}") == [(to, name)]


def test_a_name_in_the_other_unicode_form_is_the_same_name(odd_names, own_home):
    to, name = "caf\u00e9 = t\u00e9", "Cat/3=.png"
    given = unicodedata.normalize("NFD", f"{name}={to}")
    assert relabelled(own_home, odd_names, given) == [(to, name)]
    with pytest.raises(DatasetError, match="the dataset has no image 'Cat/9.png'"):
        relabelled(own_home, odd_names, "Cat/9.png=a=b")


def test_pasted_paths_are_understood_where_a_path_is_given(odd_names, own_home, trained_run):
    for given in (f"'{odd_names}'", f'"{odd_names}/" ', odd_names.as_uri()):
        assert "There are no decisions" in run(own_home, "curate", given)
    image = odd_names / "Cat" / "0=.png"
    for given in (f"'{image}'", image.as_uri()):
        answers = run(trained_run.home, "predict", trained_run.id, given)
        assert answers.startswith(f"{image}: ")


@pytest.fixture(scope="module")
def latin(tmp_path_factory):
    """Variables of a locale without UTF-8."""
    folder = tmp_path_factory.mktemp("locale")
    command = shutil.which("localedef")
    if not command or not Path("/usr/share/i18n/locales/en_US").exists():
        pytest.skip("needs localedef and its sources: apt-get install locales")
    where = folder / "en_US.ISO-8859-1"
    subprocess.run([command, "-i", "en_US", "-f", "ISO-8859-1", where], check=True)
    return {"LOCPATH": str(folder), "LC_ALL": "en_US.ISO-8859-1"}


@pytest.fixture
def cats(trained_run, own_home):
    """A copy of the trained run, one of whose classes has a name that Latin 1 lacks."""
    kept = shutil.ignore_patterns("manifest.json")  # of the name that it has now
    shutil.copytree(trained_run.path, own_home / "runs" / trained_run.id, ignore=kept)
    for name in ("architecture.json", "evaluation.json"):
        path = own_home / "runs" / trained_run.id / name
        text = path.read_text(encoding="utf-8").replace(
            '"balloon"', json.dumps("\u732b \U0001f339")
        )
        path.write_text(text, encoding="utf-8")
    return own_home


def test_nothing_ends_in_a_locale_without_utf8(latin, cats, tmp_path, trained_run, monkeypatch):
    for name, value in latin.items():
        monkeypatch.setenv(name, value)
    for name in ("PYTHONUTF8", "PYTHONIOENCODING", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for number, row in enumerate(trained_run.examples()):
        (tmp_path / "\u732b").mkdir(exist_ok=True)
        shutil.copy(row["path"], tmp_path / "\u732b" / f"{number}.png")
    done = graft_process("show", "latest", home=cats)
    assert done.returncode == 0 and "\\u732b \\U0001f339" in done.stdout, done.stderr
    done = graft_process("show", "latest", "--json", home=cats)
    assert "\u732b \U0001f339" in json.loads(done.stdout)["classes"]
    done = graft_process("batch", "latest", tmp_path, "--csv", tmp_path / "answers.csv", home=cats)
    assert done.returncode == 0, done.stderr
    answers = (tmp_path / "answers.csv").read_bytes()
    # Names of files and folders are UTF-8 too.
    assert "\u732b \U0001f339" in answers.decode() and "\u732b/0.png" in answers.decode()
