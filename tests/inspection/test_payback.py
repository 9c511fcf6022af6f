"""Payback: what decisions about single images are worth, with the uncertainty."""

import io
import json

import numpy as np
import pytest

from engine import home as homes
from engine import load_preset
from engine.data import curation, datasets, overlay, prepare_worker
from engine.data.sources import sample
from engine.errors import DatasetError
from engine.inspection import payback, payback_worker
from engine.recipe import DatasetSpec

WRONG = 0.25
SETS = ["augmentation=none", "split={method: source}", "stages=[{name: frozen, epochs: 1}]"]


def write_drawings(folder):
    """A dataset in parts, a quarter of whose training labels are the next class's."""
    random, number = np.random.default_rng(0), 0
    for part, count in (("train", 300), ("validation", 200), ("test", 20)):
        for _ in range(count):
            label = number % len(sample.CLASSES)
            given = (label + (part == "train" and random.random() < WRONG)) % len(sample.CLASSES)
            file = io.BytesIO()
            sample.render(label, number).save(file, "PNG", compress_level=1)
            path = folder / part / sample.CLASSES[given] / f"{sample.CLASSES[label]}-{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.getvalue())
            number += 1


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    """(home, spec, dataset, recipe) with wrong labels in the training part."""
    folder = tmp_path_factory.mktemp("payback")
    home = homes.home(folder / "home")
    write_drawings(folder / "things")
    spec = DatasetSpec(source="folder", path=str(folder / "things"))
    dataset = prepare_worker.ingest(spec, home)
    return home, spec, dataset, load_preset("sample", [*SETS, f"dataset={spec.model_dump_json()}"])


def decided(drawings, do, rows, to=lambda name: ""):
    """The spec with an overlay of one kind of decision about images."""
    home, spec, dataset, _ = drawings
    made = [
        {
            "content": str(dataset.contents[i]),
            "name": dataset.names[i],
            "do": do,
            "to": to(dataset.names[i]),
        }
        for i in rows
    ]
    return spec.model_copy(update={"overlay": overlay.save(home, made)})


def right_class(name):
    return name.rsplit("/", 1)[-1].split("-")[0]


def test_mending_wrong_training_labels_pays_back(drawings):
    home, _, dataset, recipe = drawings
    wrong = [
        i
        for i, name in enumerate(dataset.names)
        if dataset.classes[dataset.labels[i]] != right_class(name)
    ]
    spec = decided(drawings, "relabel", wrong, right_class)
    assert payback.state(spec, home, recipe)["state"] == "missing"
    payback.start(spec, home, recipe)
    result = payback.wait(spec, home, recipe)
    low, high = result["interval"]
    assert 0 < low < result["difference"] < high and not result["chance"]
    assert result["difference"] == pytest.approx(result["after"] - result["before"])
    assert result["n"] == 200 and result["train_before"] == result["train_after"] == 300
    assert result["counts"] == {"exclude": 0, "relabel": len(wrong), "move": 0}
    assert "more accurate" in result["text"] and result["text"].startswith("+")
    kept = payback.state(spec, home, recipe)
    assert kept["state"] == "done" and kept["result"] == result
    # Another split, or other decisions, is another question.
    other = recipe.model_copy(update={"split": load_preset("sample").split})
    assert payback.state(spec, home, other)["state"] == "missing"
    payback.cancel(spec, home, recipe)
    assert payback.state(spec, home, recipe)["state"] == "missing"


def test_two_images_more_or_less_are_called_chance(drawings):
    home, _, dataset, recipe = drawings
    validation = dataset.split(recipe.split)["validation"]
    spec = decided(drawings, "exclude", [0, int(validation[0])])
    asked = recipe.model_copy(update={"dataset": spec})
    result = payback_worker.measure(asked, home, lambda *progress: None)
    low, high = result["interval"]
    assert low < 0 < high and result["chance"] and "chance" in result["text"]
    assert abs(result["difference"]) < 0.03
    assert result["n"] == 199  # what is left out is not counted


def test_without_decisions_there_is_nothing_to_compare(drawings):
    home, spec, _, recipe = drawings
    with pytest.raises(DatasetError, match="nothing to compare"):
        payback.start(spec, home, recipe)
    elsewhere = DatasetSpec(source="folder", path=spec.path + "-not", overlay="0" * 16)
    with pytest.raises(DatasetError, match="not prepared"):
        payback.start(elsewhere, home, recipe)
    assert datasets.state(elsewhere, home)["state"] == "missing"


def test_the_interval_of_a_paired_difference():
    """Against figures worked out by hand from Bonett and Price's formula."""
    found, low, high = payback.difference(12, 4, 100)
    # (13 - 5) / 102 = 0.0784; the variance is (18 / 102 - 0.0784^2) / 102, its root 0.0409.
    assert found == pytest.approx(0.08)
    assert (low, high) == (pytest.approx(-0.0017, abs=2e-4), pytest.approx(0.1586, abs=2e-4))
    assert payback.difference(0, 0, 50)[1] < 0 < payback.difference(0, 0, 50)[2]
    assert payback.sentence(0.019, 0.003, 0.035, 350).startswith("+1.9 points (0.3 to 3.5)")
    assert "less accurate" in payback.sentence(-0.02, -0.03, -0.01, 350)


def test_the_command_line_compares_what_was_decided(drawings, tmp_path):
    from typer.testing import CliRunner

    from engine.cli.main import app

    home, spec, dataset, recipe = drawings
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    asked = ["payback", spec.path, "--recipe", str(path), "--home", str(home), "--json"]
    refused = CliRunner().invoke(app, asked)
    assert "nothing to compare" in str(refused.exception)
    two = dataset.split(recipe.split)["train"][:2]
    curation.decide(home, spec, "", curation.decisions(dataset, two, "exclude"))
    answered = CliRunner().invoke(app, asked)
    assert answered.exit_code == 0, answered.output
    found = json.loads(answered.output[answered.output.index("{") :])
    assert found["counts"]["exclude"] == 2 and found["train_after"] == found["train_before"] - 2
