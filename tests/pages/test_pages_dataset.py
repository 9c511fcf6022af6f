"""The Dataset page without a browser: findings, decisions and where the images come from."""

import dataclasses
import io
import zipfile

import numpy as np
import pytest

from engine import home as homes
from engine import load_preset
from engine.data import curation, datasets, prepare_worker
from engine.data.sources import collection, sample
from engine.inspection import inspection
from engine.recipe import DatasetSpec, field_help
from tests.support.pages import button, open_page, said

COPIES = 4


def packed(path, copies=COPIES) -> bytes:
    """A zip of 60 drawings in class folders, some of them twice."""
    made = list(sample.generate(60))
    with zipfile.ZipFile(path, "w") as file:
        for name, label, data in made:
            file.writestr(f"{sample.CLASSES[label]}/{name.rsplit('/', 1)[-1]}", data)
        for name, label, data in made[:copies]:
            file.writestr(f"{sample.CLASSES[label]}/copy-{name.rsplit('/', 1)[-1]}", data)
    return path


@pytest.fixture(scope="module")
def inspected(tmp_path_factory):
    """(home, spec): a zip with copies, prepared and inspected with the sample's backbone."""
    home = homes.home(tmp_path_factory.mktemp("inspected"))
    spec = DatasetSpec(source="zip", path=str(packed(tmp_path_factory.mktemp("zip") / "mine.zip")))
    prepare_worker.ingest(spec, home)
    recipe = load_preset("sample")
    inspection.start(spec, home, recipe)
    assert inspection.wait(spec, home, recipe)["state"] == "done"
    return home, spec


@pytest.fixture
def at(inspected, monkeypatch):
    """Opens the page on the inspected zip; what a test decided is undone afterwards."""
    home, spec = inspected
    monkeypatch.setenv("GRAFT_HOME", str(home))
    sets = ["dataset.source=zip", f"dataset.path={spec.path}"]
    yield lambda *more: open_page("dataset", preset="sample", set=[*sets, *more])
    while any(not step.undone for step in curation.steps(home, spec)):
        curation.undo(home, spec)


def images(app) -> str:
    return next(item.value for item in app.metric if item.label == "Images")


def view(app, name):
    """Opens one of the page's views."""
    app.session_state["dataset_view"] = name
    return app.run()


def test_findings_name_the_copies_and_one_button_leaves_them_out(at, inspected):
    app = view(at(), "Findings")
    assert not app.exception and images(app) == str(60 + COPIES)
    finding = next(box for box in app.selectbox if box.label == "Look at")
    finding.select("exact_duplicates").run()
    assert f"{2 * COPIES} images" in said(app)
    button(app, f"Leave out {COPIES} copies, keep one of each").click().run()
    assert not app.exception and images(app) == "60"
    assert f"{COPIES} left out" in said(app)
    assert [step.undone for step in curation.steps(*inspected)] == [False]
    finding = next((box for box in app.selectbox if box.label == "Look at"), None)
    assert finding is None or "exact_duplicates" not in finding.options
    next(b for b in app.button if b.label.startswith("Undo")).click().run()
    assert images(app) == str(60 + COPIES) and f"{COPIES} left out" not in said(app)


@pytest.mark.parametrize("share, kind", [(0.9, "mislabelled"), (0.1, "doubtful")])
def test_relabelling_as_suggested_is_offered_only_where_most_labels_are_wrong(
    at, inspected, monkeypatch, share, kind
):
    home, spec = inspected
    found = inspection.open_inspection(spec, home)
    suggested = (found.labels + 1) % len(sample.CLASSES)
    judged = found.features | {
        "wrong": np.where(np.arange(len(suggested)) < 3, share, 0).astype(np.float32),
        "given_probability": np.where(np.arange(len(suggested)) < 3, 0.01, 0.9),
        "suggested": suggested,
        "suggested_probability": np.full(len(suggested), 0.5),
        "noticed": np.array(0.6),
        "backbone": np.array("TestNet"),
    }
    changed = dataclasses.replace(found, features=judged, key=kind)
    monkeypatch.setattr(inspection, "open_inspection", lambda *_: changed)
    app = view(at(), "Findings")
    assert not app.exception
    next(box for box in app.selectbox if box.label == "Look at").select(kind).run()
    assert not app.exception and "Judged with TestNet" in said(app)
    offered = any(b.label.startswith("Relabel as suggested") for b in app.button)
    assert offered == (kind == "mislabelled")
    assert any("judged with TestNet" in item.value for item in app.caption)


def test_decisions_can_be_set_aside_and_taken_up_and_are_part_of_the_link(at, inspected):
    home, spec = inspected
    opened = prepare_worker.ingest(spec, home)
    overlay = curation.decide(home, spec, "two", curation.decisions(opened, [0, 1], "exclude"))
    app = at()  # a link that names none
    button(app, "Use the latest").click().run()
    view(app, "Decisions")
    assert images(app) == "62" and overlay in str(app.query_params["set"])
    toggle = next(item for item in app.toggle if item.label == "Train with these decisions")
    assert toggle.proto.help == field_help("dataset.overlay")
    toggle.set_value(False).run()
    assert images(app) == "64" and "The recipe uses no decisions" in said(app)
    assert not any(b.label.startswith("Leave out") for b in view(app, "Images").button)
    view(app, "Decisions")
    next(i for i in app.toggle if i.label == "Train with these decisions").set_value(True).run()
    assert images(app) == "62"
    more = curation.decide(home, spec, "more", curation.decisions(opened, [2], "exclude"))
    linked = at(f"dataset.overlay={overlay}")
    assert images(linked) == "62" and "other decisions" in said(linked)
    button(linked, "Use the latest").click().run()
    assert images(linked) == "61" and more in str(linked.query_params["set"])


def test_a_link_to_decisions_that_are_elsewhere_says_so_and_offers_two_ways_out(at):
    app = at(f"dataset.overlay={'ab' * 8}")
    assert not app.exception
    assert any("are not on this host" in item.value for item in app.error)
    assert images(button(app, "Use no decisions").click().run()) == "64"


def test_a_recipe_from_elsewhere_keeps_its_decisions_or_that_it_has_none(at, inspected):
    home, spec = inspected
    opened = prepare_worker.ingest(spec, home)
    curation.decide(home, spec, "one", curation.decisions(opened, [0], "exclude"))
    app = at('dataset.overlay=""')
    assert images(app) == "64" and "The recipe uses no decisions" in said(app)


def test_another_dataset_begins_with_its_own_decisions(at, inspected, tmp_path):
    home, spec = inspected
    opened = prepare_worker.ingest(spec, home)
    curation.decide(home, spec, "two", curation.decisions(opened, [0, 1], "exclude"))
    app = at()
    button(app, "Use the latest").click().run()
    assert images(app) == "62"
    other = DatasetSpec(source="zip", path=str(packed(tmp_path / "other.zip", copies=1)))
    prepare_worker.ingest(other, home)
    path = next(box for box in app.text_input if "path of a zip" in box.label)
    path.set_value(other.path).run()
    assert images(app) == "61" and "decisions" not in said(app).replace("decisions about", "")
    assert "overlay=" not in str(app.query_params["set"])


@pytest.mark.parametrize("page", ["dataset", "configure"])
def test_the_split_says_what_it_found(page, tmp_path, monkeypatch):
    home = homes.home(tmp_path / "home")
    monkeypatch.setenv("GRAFT_HOME", str(home))
    for name, label, data in sample.generate(60):
        part = "test" if int(name.rsplit("/", 1)[-1].split(".")[0]) % 3 == 0 else "train"
        file = tmp_path / "mine" / part / sample.CLASSES[label] / name.rsplit("/", 1)[-1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    spec = DatasetSpec(source="folder", path=str(tmp_path / "mine"))
    prepare_worker.ingest(spec, home)
    sets = ["dataset.source=folder", f"dataset.path={spec.path}"]
    app = open_page(page, preset="sample", set=sets)
    assert not app.exception
    words = said(app).replace("\\", "")
    assert "its own train and test; validation (15%) is taken from train" in words
    method = next(box for box in app.selectbox if box.label == "How the images are divided")
    assert method.value == "auto"
    method.select("stratified").run()
    assert "source's own test images may be trained on" in said(app).replace("\\", "")
    together = next(box for box in app.selectbox if box.label == "Kept together")
    assert together.value == "copies"
    together.set_value("folder").run()
    assert "split.group_by=folder" in app.query_params["set"]
    app = open_page(page, preset="sample", set=[*sets, "split.group_by=(a)(b)"])
    assert "this regular expression has 2 groups, not one" in said(app)


@pytest.mark.parametrize("name", ["Images", "Map", "Counts and sizes", "What the network will see"])
def test_every_view_can_be_drawn(at, name):
    app = view(at(), name)
    assert not app.exception and not app.error


def test_a_file_that_is_no_zip_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path / "home"))
    home = homes.home()
    bad = tmp_path / "photos.zip"
    bad.write_text("this is no zip")
    app = open_page("dataset", preset="sample", set=["dataset.source=zip", f"dataset.path={bad}"])
    button(app, "Preview").click().run()
    assert not app.exception
    assert any("is not a zip file" in item.value for item in app.error)
    assert not [p for p in (home / "datasets").iterdir() if p.is_dir()]


def test_an_uploaded_zip_is_kept_prepared_and_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path / "home"))
    home = homes.home()
    app = open_page(
        "dataset", preset="sample", set=["dataset.source=zip", "dataset.path=/not/there.zip"]
    )
    data = packed(tmp_path / "a.zip").read_bytes()
    app.file_uploader[0].upload("pictures.zip", data, "application/zip").run()
    assert not app.exception and not app.error
    kept = list((home / "uploads").glob("*/*.zip"))
    assert len(kept) == 1 and kept[0].read_bytes() == data
    spec = DatasetSpec(source="zip", path=str(kept[0]))
    while datasets.state(spec, home)["state"] == "preparing":
        pass  # a process that the page started prepares it; there is nothing else to wait for
    assert len(datasets.open_dataset(spec, home)) == 60 + COPIES
    assert images(app.run()) == str(60 + COPIES)


def test_a_dataset_is_put_together_here(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path / "home"))
    home = homes.home()
    app = open_page("dataset", preset="sample", set=["dataset.source=saved", "dataset.name=x"])
    next(box for box in app.text_input if box.label == "Name").set_value("mine").run()
    button(app, "Create").click().run()
    assert collection.names(home) == ["mine"] and not app.exception
    for label, number in (("cup", 4), ("kite", 0)):
        next(b for b in app.selectbox if b.label == "Class").select("＋ New class").run()
        next(b for b in app.text_input if b.label == "Name of the new class").set_value(label).run()
        for seed in range(12):
            file = io.BytesIO()
            sample.render(number, seed=500 + seed).save(file, "PNG")
            app.file_uploader[0].upload(f"{seed}.png", file.getvalue(), "image/png")
        app.run()
        next(b for b in app.button if b.label.startswith("Add ")).click().run()
        assert not app.exception
    made = prepare_worker.ingest(DatasetSpec(source="saved", name="mine"), home)
    assert made.classes == ("cup", "kite") and np.bincount(made.labels).tolist() == [12, 12]
    next(b for b in app.run().button if b.label.startswith("Undo the last")).click().run()
    assert collection.open_(home, "mine").batches[-1].classes == {"cup": 12}
