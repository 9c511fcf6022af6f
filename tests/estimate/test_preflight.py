"""The preflight: what is predicted before a run, and how it is compared with the run."""

import subprocess

import pytest

from engine import home as homes
from engine.data import prepare_worker
from engine.errors import GraftError
from engine.estimate import preflight, probes
from engine.host.background import silent
from engine.jobs import jobs
from engine.recipe import load_preset
from tests.support.pages import open_page, prepared, said

SETS = ["dataset.images=160", "augmentation=none", "stages.0.epochs=2", "stages.1.epochs=1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A home of the module's own, with the pictures drawn: a probe's answer is kept by them."""
    made = homes.home(tmp_path_factory.mktemp("preflight"))
    prepare_worker.ingest(load_preset("sample", SETS).dataset, made)
    return made


def measure_here(recipe, place):
    """A probe without a process of its own, which for later tests would have determinism on."""
    from engine.estimate import preflight_worker

    recipe = recipe.model_copy(update={"deterministic": False})
    return preflight_worker.measure(recipe, place, 0, silent)


def test_a_probe_of_a_dataset_that_is_not_prepared_says_so(tmp_path):
    with pytest.raises(GraftError, match="not prepared yet"):
        probes.start("preflight", load_preset("sample"), homes.home(tmp_path))


@pytest.fixture(scope="module")
def measured(place):
    """(recipe with a cached and a whole stage, what a probe of it found)."""
    recipe = load_preset("sample", SETS)
    probes.start("preflight", recipe, place)
    seen = []
    found = probes.wait("preflight", recipe, place, progress=seen.append)
    assert any(state["total"] for state in seen), "progress is reported"
    return recipe, found


def test_every_stage_is_predicted(measured):
    recipe, found = measured
    frozen, unfrozen = found["stages"]
    assert (frozen["name"], unfrozen["name"]) == ("frozen", "unfrozen")
    assert (frozen["path"], unfrozen["path"]) == ("cached features", "whole network")
    for row in found["stages"]:
        for name in ("seconds", "step_seconds", "epoch_seconds", "images_per_second"):
            assert row[name] > 0, name
        assert 100 < row["peak_memory_mb"] < found["available_memory_mb"]
    parts = sum(row["seconds"] + row["check_seconds"] for row in found["stages"])
    around = found["startup_seconds"] + found["finish_seconds"]
    assert found["seconds"] == pytest.approx(parts + around)
    assert found["proposed_batch_size"] is None
    assert found["text"].count(". ") == 0 and "in total on" in found["text"]


def test_augmentation_that_never_repeats_is_predicted_as_the_whole_network(place):
    from engine.features import store

    recipe = load_preset("sample", SETS[:1])
    assert store.why_not(recipe, "none")  # else the case below says nothing
    found = measure_here(recipe, place)
    assert [row["path"] for row in found["stages"]] == ["whole network"] * 2


def test_a_run_carries_its_prediction_and_is_compared_with_it(measured, place):
    recipe, found = measured
    run = jobs.wait(jobs.start(recipe, place))
    assert run.status == "finished", run.log_tail()
    assert homes.read_json(run.path / "preflight.json")["stages"][0]["name"] == "frozen"
    rows = preflight.compare(run)
    assert [row["stage"] for row in rows] == ["frozen", "unfrozen", "total"]
    for row in rows[:2]:
        assert row["actual_path"] == row["path"]
        assert row["actual_epochs"] == row["epochs"]
        for name in ("seconds", "images_per_second", "peak_memory_mb"):
            assert row[name] > 0 and row["actual_" + name] > 0, name
    assert rows[2]["actual_seconds"] >= rows[0]["actual_seconds"] + rows[1]["actual_seconds"]
    cells = preflight.comparison(rows)[1]
    assert all(" / " in row[2] for row in cells)

    # What the run has computed is no longer predicted: now without a new probe, ...
    warm = preflight.estimate(recipe, place)
    assert warm["stages"][0]["records_missing"] == 0
    assert warm["stages"][0]["feature_seconds"] == 0
    assert warm["seconds"] < found["seconds"] or found["stages"][0]["records_missing"] == 0
    # ... and by a new one, which asks the very store that the run has filled.
    again = load_preset("sample", [*SETS, "stages.0.epochs=3"])
    assert measure_here(again, place)["stages"][0]["records_missing"] == 0


def test_a_run_without_a_preflight_has_nothing_to_compare(trained_run):
    assert preflight.compare(trained_run) == []


def test_too_little_memory_proposes_a_smaller_batch(place):
    """In this process, so that the free memory can be made up."""
    from engine.estimate import preflight_worker

    # Determinism is switched on for a whole process, and other tests share this one.
    sets = [
        "deterministic=false",
        "batch_size=128",
        "stages=[{name: unfrozen, trainable: all, epochs: 1}]",
    ]
    recipe = load_preset("sample", [*SETS[:2], *sets])
    told = []
    found = preflight_worker.measure(recipe, place, 0, lambda *a: told.append(a), available_mb=100)
    assert found["proposed_batch_size"] in (1, 2, 4, 8, 16, 32, 64)
    assert "Batches of 128 would take about" in found["text"]
    assert found["stages"][0]["peak_memory_mb"] > 100
    assert all(done <= total for _, done, total in told if total)


def test_memory_is_thought_to_grow_with_the_batch_in_a_straight_line():
    from engine.estimate import memory

    points = [(8, 1080.0), (32, 1320.0)]  # 1000 MiB, and 10 more for each image
    assert memory.grown(points, 128) == 2280
    assert memory.largest_batch(points, 2000, 127) == 64
    assert memory.largest_batch(points, 5000, 127) == 64
    assert memory.largest_batch(points, 500, 127) == 1
    assert memory.largest_batch([(1, 100.0)], 500, 3) == 2


def test_a_gpu_that_does_not_answer_is_not_one_without_memory(monkeypatch):
    from engine.estimate import memory

    def busy(*_, **__):
        raise subprocess.TimeoutExpired("nvidia-smi", 10)

    monkeypatch.setattr(memory, "on_gpu", lambda: True)
    monkeypatch.setattr(memory.tf.config.experimental, "get_memory_info", lambda _: {"current": 0})
    monkeypatch.setattr(memory.device.shutil, "which", lambda _: "nvidia-smi")
    monkeypatch.setattr(memory.device, "_known", {})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(subprocess, "run", busy)
    with pytest.raises(GraftError, match="nvidia-smi does not answer"):
        memory.available_mb()


def test_missing_weights_are_one_sentence_before_the_launch(place, tmp_path):
    recipe = load_preset(
        "sample", [*SETS, "backbone.name=MobileNetV2", f"backbone.weights={tmp_path}/none.h5"]
    )
    probes.start("preflight", recipe, place)
    with pytest.raises(GraftError, match="none.h5") as caught:
        probes.wait("preflight", recipe, place)
    assert "\n" not in str(caught.value)
    assert preflight.estimate(recipe, place) is None


# -- on Configure -------------------------------------------------------------------------------


@pytest.fixture
def page_home(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path))
    return homes.home()


def put_answer(home, recipe, **changes):
    """Puts a made-up result in the place of a probe's."""
    row = {
        "name": "frozen", "path": "whole network", "seconds": 130.0, "images_per_second": 400.0,
        "peak_memory_mb": 2500.0, "host_memory_mb": 2500.0,
    }  # fmt: skip
    result = {
        "version": 1, "device": "CPU", "stages": [row, row | {"name": "unfrozen"}],
        "seconds": 300.0, "peak_memory_mb": 2500.0, "host_memory_mb": 2500.0,
        "available_memory_mb": 8000.0, "proposed_batch_size": None, "others_share": 0.0,
    }  # fmt: skip
    (home / "probes").mkdir(exist_ok=True)
    path = home / "probes" / f"{probes.key('preflight', recipe, home)}.json"
    homes.write_json(path, {"result": result | changes})


def test_configure_says_what_is_needed_before_it_can_measure(page_home):
    app = open_page("configure")
    assert "Time and memory (preflight)" in said(app)
    assert "Prepare the dataset on" in said(app)
    assert not [b for b in app.button if b.key == "measure"]
    prepared(page_home)
    app = open_page("configure")
    assert app.button(key="measure").label == "Measure on this host"
    assert not app.button(key="measure").disabled


def test_configure_shows_the_prediction(page_home):
    prepared(page_home)
    put_answer(page_home, load_preset("sample"))
    app = open_page("configure")
    assert "About 5 min 00 s in total on CPU" in said(app)
    table = next(t.value for t in app.dataframe if "How it runs" in t.value.columns)
    assert list(table["Stage"]) == ["frozen", "unfrozen", "start and finish", "total"]
    assert table["Peak memory"][0] == "2.4 GiB"
    assert app.button(key="measure").label == "Measure again"


def test_a_proposed_batch_is_taken_with_one_click(page_home):
    prepared(page_home)
    put_answer(page_home, load_preset("sample"), proposed_batch_size=8)
    app = open_page("configure")
    assert any("batches of 8 fit" in item.value for item in app.warning)
    app.button(key="use_batch").click().run()
    assert not app.exception
    numbers = {item.label: item.value for item in app.number_input}
    assert numbers["Batch size (images)"] == 8


def test_nothing_is_measured_while_a_run_is_in_progress(page_home):
    from tests.support.browser import GrowingRun

    prepared(page_home)
    GrowingRun(page_home).grow(3)
    app = open_page("configure")
    assert app.button(key="measure").disabled
    assert "Not available while a run is in progress" in said(app)
