"""The command line, as a user or a script meets it."""

import json
import re
import shlex

import pytest
import typer.main
from typer.testing import CliRunner

from engine.cli.main import app
from tests.support import ROOT
from tests.support.cli import graft, graft_process
from tests.support.pictures import picture


@pytest.mark.slow
def test_train_follow_show_predict_evaluate(graft_home, tmp_path, class_folder):
    done = graft_process("train", "sample", "--set", "stages.0.epochs=1",
                         "--set", "stages.1.epochs=1", "--set", "dataset.images=200",
                         home=graft_home)  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = done.stdout.strip().splitlines()[-1]
    shown = json.loads(graft("show", run, "--json", home=graft_home).stdout)
    assert shown["id"] == run and shown["status"] == "finished"
    assert {"accuracy", "interval", "n"} <= set(shown["evaluation"]["test"])
    assert shown["kept_stage"] in ("frozen", "unfrozen") and shown["seconds"] > 0
    assert shown["recipe"]["stages"][0]["epochs"] == 1

    picture().save(tmp_path / "a.png")
    (tmp_path / "b.txt").write_text("words")
    said = graft(
        "predict",
        run,
        tmp_path / "a.png",
        tmp_path / "b.txt",
        "--json",
        "--top",
        2,
        home=graft_home,
    )
    first, second = json.loads(said.stdout)
    assert said.returncode == 2  # one of them is no image
    assert (
        first["image"].endswith("a.png") and len(first["answers"]) == 2 and first["error"] is None
    )
    assert second["answers"] == [] and "not an image" in second["error"]
    assert graft("predict", "latest", tmp_path / "a.png", home=graft_home).returncode == 0

    figures = json.loads(graft("evaluate", run, "--json", home=graft_home).stdout)
    assert figures["accuracy"] == shown["evaluation"]["test"]["accuracy"]
    refused = graft("evaluate", run, "--data", class_folder, home=graft_home)
    assert refused.returncode == 2 and "named like one of the run's classes" in refused.stderr
    (class_folder / "red").rename(class_folder / "teacup")
    (class_folder / "teacup" / "broken.png").write_bytes(b"x")
    own = json.loads(
        graft("evaluate", run, "--data", class_folder, "--json", home=graft_home).stdout
    )
    assert (
        own["n"] == 12
        and own["unknown_classes"] == ["blue", "green"]
        and len(own["unreadable"]) == 1
    )

    listed = json.loads(graft("runs", "--json", home=graft_home).stdout)
    assert run in [r["id"] for r in listed]
    assert run in graft("runs", home=graft_home).stdout
    prepared = json.loads(graft("datasets", "--json", home=graft_home).stdout)["prepared"]
    assert "sample" in [d["title"] for d in prepared]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nothing"], "neither a preset"),
        (["train", "sample", "--set", "stages.0.epochs=0"], "at least 1; 0 was given"),
        (["train", "sample", "--set", "nonsense"], "must look like"),
        (["predict", "none", "x.jpg"], "there is no run 'none'"),
        (["show", "../.."], "there is no run"),
        (["evaluate", "none"], "there is no run"),
        (["stop", "none"], "there is no run"),
        (["fly"], "No such command"),
        (["presets", "none"], "there is no preset"),
    ],
)
def test_bad_input_is_exit_code_2_and_a_sentence(arguments, words, tmp_path):
    done = (graft_process if words == "No such command" else graft)(*arguments, home=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


COMMANDS = typer.main.get_command(app).commands


def shown_help(*command) -> str:
    """What `--help` prints, on one line and without frames."""
    done = CliRunner().invoke(app, [*command, "--help"])
    assert done.exit_code == 0, done.output
    return " ".join(re.sub("[│╭╮╰╯─]", " ", done.output).split())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_an_example_that_the_command_accepts(name):
    """Nothing is run: the example is parsed, with its options and their bounds."""
    said = shown_help(name)
    assert said.count("Example: python -m engine ") == 1
    example = said.partition("Example: python -m engine ")[2]
    command, *arguments = shlex.split(example)
    assert command == name
    COMMANDS[name].make_context(name, arguments)


def test_the_help_begins_with_the_main_steps_in_order_and_names_every_command():
    said = shown_help()
    panels = ["Main steps, in this order", "Datasets", "Recipes", "Runs", "Models", "This host"]
    places = [said.index(f" {panel} ") for panel in panels]
    assert places == sorted(places) and said.index(" Options ") < places[0]
    steps = said[places[0] : places[1]]
    walk = ["datasets", "inspect", "presets", "train", "runs", "show", "predict", "export"]
    found = [steps.find(f" {step} {COMMANDS[step].help[:15]}") for step in walk]
    assert -1 not in found and found == sorted(found)
    for name, command in COMMANDS.items():
        assert f" {name} {command.help[:15]}" in said


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_documents_name_commands_that_exist_and_the_readme_names_all():
    named = {
        path.name: set(re.findall(r"python -m engine ([a-z][a-z-]*)", path.read_text()))
        for path in DOCUMENTS
    }
    assert {
        name: unknown for name, found in named.items() if (unknown := found - set(COMMANDS))
    } == {}
    table = re.findall(r"^\| [\w ]+ \| ((?:`[a-z-]+`(?:, )?)+) \|$", DOCUMENTS[0].read_text(), re.M)
    assert named["README.md"] | set(re.findall("`(.+?)`", " ".join(table))) == set(COMMANDS)


def test_lists_are_json_where_asked(tmp_path):
    for command in ("presets", "recipe", "datasets", "backbones", "runs"):
        done = graft(command, "--json", home=tmp_path)
        assert done.returncode == 0
        json.loads(done.stdout)
        assert graft(command, home=tmp_path).returncode == 0


def test_a_home_that_cannot_be_written_gets_a_sentence():
    done = graft("runs", home="/proc/graft")
    assert done.returncode == 2 and "GRAFT_HOME" in done.stderr and "Traceback" not in done.stderr
