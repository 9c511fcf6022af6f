"""Which recipe is proposed for a dataset, and what presets and Undo leave alone."""

import threading

import pytest

from engine import home as homes
from engine.data.sources import collection
from engine.estimate import proposal
from engine.recipe import DatasetSpec, load_preset
from tests.support.pages import button, open_page, said

DATASET = {"name": "", "path": "", "images": 600, "overlay": ""}
REACHABLE = proposal._reachable


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home of its own, where the weights of MobileNetV2 0.35 are on the host."""
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path))
    keras_home(tmp_path / "keras", monkeypatch, weights=True)
    return homes.home()


def keras_home(folder, monkeypatch, weights):
    """Keras' folder of downloads, with or without the weights, on a host without a network."""
    models = folder / "models"
    models.mkdir(parents=True)
    monkeypatch.setenv("KERAS_HOME", str(folder))
    monkeypatch.setattr(proposal, "_reachable", lambda host: False)
    if weights:
        name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
        (models / name).write_bytes(b"only its name is looked at here")


def choose(app, label, value):
    return next(box for box in app.selectbox if box.label == label).select(value).run()


def source(app, value):
    """Chooses where the images come from, on the Dataset page."""
    group = next(g for g in app.get("button_group") if g.label == "Where the images come from")
    return group.set_value(value).run()


def backbone(app):
    app.switch_page("configure.py").run()
    assert not app.exception
    return next(box.value for box in app.selectbox if box.label == "Network")


def test_photos_get_the_recipe_for_photos_and_drawings_theirs(home):
    for kind in ("tfds", "folder", "zip", "saved"):
        assert proposal.propose(DATASET | {"source": kind}, home).preset == "flowers"
    assert proposal.propose(DATASET | {"source": "sample"}, home).preset == "sample"
    collection.create(home, "more-drawings", DatasetSpec())
    made = DATASET | {"source": "saved", "name": "more-drawings"}
    assert proposal.propose(made, home).preset == "sample"
    collection.create(home, "my-photos", None)
    assert (
        proposal.preset_for(DATASET | {"source": "saved", "name": "my-photos"}, home) == "flowers"
    )


def test_without_weights_or_a_network_the_proposal_says_what_that_costs(
    home, tmp_path, monkeypatch
):
    keras_home(tmp_path / "empty", monkeypatch, weights=False)
    made = proposal.propose(DATASET | {"source": "tfds"}, home)
    assert made.recipe["backbone"]["name"] == "GraftSmall" and made.recipe["image_size"] == 96
    assert made.recipe["stages"] == load_preset("flowers").to_dict()["stages"]
    assert "less accuracy" in made.warning and str(tmp_path / "empty" / "models") in made.warning
    monkeypatch.setattr(proposal, "_reachable", lambda host: True)
    made = proposal.propose(DATASET | {"source": "tfds"}, home)
    assert made.recipe["backbone"]["name"] == "MobileNetV2" and not made.warning


@pytest.mark.parametrize("answer", ["late", "timeout", "refused"])
def test_a_host_that_is_slow_to_answer_never_changes_the_recipe(
    home, tmp_path, monkeypatch, answer
):
    released = threading.Event()
    keras_home(tmp_path / "empty", monkeypatch, weights=False)
    monkeypatch.setattr(proposal, "_reachable", REACHABLE)
    monkeypatch.setattr(proposal.urllib.request, "getproxies", dict)

    def connect(address, timeout):
        if answer == "late":
            released.wait()
        raise TimeoutError if answer == "timeout" else ConnectionRefusedError

    monkeypatch.setattr(proposal.socket, "create_connection", connect)
    # "late": the host answers only after the proposal is made, however long that takes.
    monkeypatch.setattr(proposal, "PATIENCE", 0.01 if answer == "late" else 60)
    made = proposal.propose(DATASET | {"source": "tfds"}, home)
    released.set()
    name = "GraftSmall" if answer == "refused" else "MobileNetV2"
    assert made.recipe["backbone"]["name"] == name
    assert ("has not answered" in made.warning) == (answer != "refused")


def test_choosing_photos_on_the_page_proposes_a_backbone_for_photos(home):
    app = source(open_page("dataset"), "tfds")
    assert backbone(app) == "MobileNetV2"
    assert "Dataset: **tf_flowers**. Exactly the preset flowers." in said(app)
    app.switch_page("dataset.py").run()
    assert backbone(source(app, "sample")) == "GraftSmall"
    assert "Exactly the preset sample." in said(app)


def test_a_recipe_that_was_edited_stays_and_the_page_offers_the_one_for_photos(home):
    app = open_page("configure")
    next(n for n in app.number_input if n.label == "Length (epochs)").set_value(7).run()
    app.switch_page("dataset.py").run()
    assert backbone(source(app, "tfds")) == "GraftSmall"
    assert 7 in [n.value for n in app.number_input if n.label == "Length (epochs)"]
    assert any("only generated drawings" in item.value for item in app.warning)
    button(app, "Use the recipe for photos").click().run()
    assert backbone(app) == "MobileNetV2" and "Dataset: **tf_flowers**" in said(app)
    assert not app.warning


def test_no_weights_is_said_loudly_where_the_recipe_is(home, tmp_path, monkeypatch):
    keras_home(tmp_path / "empty", monkeypatch, weights=False)
    app = source(open_page("dataset"), "tfds")
    assert backbone(app) == "GraftSmall"
    assert any("cannot be downloaded" in item.value for item in app.warning)


def test_a_preset_keeps_the_dataset_and_the_split(home):
    app = source(open_page("dataset"), "tfds")
    app.switch_page("configure.py").run()
    label = "Validation (%)"
    next(n for n in app.number_input if n.label == label).set_value(20.0).run()
    next(n for n in app.number_input if n.label.startswith("Training (")).set_value(70.0).run()
    for name, network in (("reference", "Xception"), ("sample", "GraftSmall")):
        choose(app, "Start from a preset", name)
        assert backbone(app) == network
        assert "Dataset: **tf_flowers**" in said(app)
        assert next(n.value for n in app.number_input if n.label == label) == 20
    button(app, "Use the dataset of this preset (sample)").click().run()
    assert "Dataset: **sample**. Exactly the preset sample." in said(app)


def test_undo_all_changes_keeps_the_dataset(home):
    app = source(open_page("dataset"), "tfds")
    app.switch_page("configure.py").run()
    assert not any(item.label == "Undo all changes" for item in app.button)
    next(n for n in app.number_input if n.label == "Length (epochs)").set_value(7).run()
    button(app, "Undo all changes").click().run()
    assert "Dataset: **tf_flowers**. Exactly the preset flowers." in said(app)
    assert 7 not in [n.value for n in app.number_input if n.label == "Length (epochs)"]


def test_a_link_that_names_no_preset_gets_the_one_for_its_dataset(home):
    app = open_page("configure", set=["dataset.source=tfds", "dataset.name=beans"])
    assert backbone(app) == "MobileNetV2" and "Dataset: **beans**" in said(app)


def test_a_damaged_collection_does_not_hold_the_page(home):
    collection.create(home, "mine", None)
    (home / "saved" / "mine" / "saved.json").write_text("[]")
    made = DATASET | {"source": "saved", "name": "mine"}
    assert proposal.preset_for(made, home) == "flowers"
    app = open_page("dataset", set=["dataset.source=saved", "dataset.name=mine"])
    assert backbone(source(app, "sample")) == "GraftSmall"


@pytest.mark.parametrize("dataset", ["5", "null", "{}", "{source: saved}"])
def test_a_link_with_a_dataset_that_is_none_says_so(home, dataset):
    app = open_page("configure", set=[f"dataset={dataset}"])
    assert not app.error and "Exactly the preset" in said(app)


def test_a_dataset_built_on_the_sample_keeps_the_recipe_for_drawings(home):
    collection.create(home, "more-drawings", DatasetSpec())
    app = source(open_page("dataset"), "saved")
    assert backbone(app) == "GraftSmall"
    app.switch_page("dataset.py").run()
    assert backbone(source(app, "sample")) == "GraftSmall"


def test_a_proposal_is_made_again_after_a_whole_preset(home):
    app = source(open_page("dataset"), "tfds")
    app.switch_page("configure.py").run()
    choose(app, "Start from a preset", "sample")
    button(app, "Use the dataset of this preset (sample)").click().run()
    app.switch_page("dataset.py").run()
    assert backbone(source(app, "tfds")) == "MobileNetV2"


def test_undo_has_nothing_left_to_do_once_it_was_used(home):
    app = source(open_page("dataset"), "tfds")
    app.switch_page("configure.py").run()
    choose(app, "Start from a preset", "reference")
    next(n for n in app.number_input if n.label == "Length (epochs)").set_value(7).run()
    button(app, "Undo all changes").click().run()
    assert not any(item.label == "Undo all changes" for item in app.button)
    assert "Exactly the preset reference." in said(app)
