"""The learning-rate finder: what it reads off a curve, and what it says on real training."""

import json

import numpy as np
import pytest

from engine import home as homes
from engine.charts import rates as charts_rates
from engine.data import datasets, prepare_worker
from engine.errors import RecipeError
from engine.estimate import probes, rate_test
from engine.host.background import silent
from engine.recipe import load_preset
from tests.support.cli import graft
from tests.support.pages import button, open_page, prepared, said

NOISE = 0.01 * np.random.default_rng(0).standard_normal(rate_test.STEPS)


def valley(tried, steepest=1e-3, end=1e-1):
    """A loss that stands still, falls steepest at one rate, and explodes from another on."""
    fall = 2 - 1.5 / (1 + (steepest / tried) ** 2)
    return fall + np.maximum(0, np.log10(tried / end)) * 10


def fixed(*sets):
    """The preset sample, small."""
    return load_preset("sample", ["dataset.images=150", *sets])


# -- what a curve says --------------------------------------------------------------------------


def test_a_valley_gives_a_rate_on_its_slope():
    tried = rate_test.sweep("adam")
    smoothed, found = rate_test.suggest(tried, valley(tried) + NOISE)
    # The average of the last ten losses lags half a decade behind.
    assert 5e-4 <= found <= 1e-2
    assert len(smoothed) == len(tried) and np.isfinite(smoothed).all()
    assert found <= tried[smoothed.argmin()] / 10 * 1.0001


def test_smoothing_begins_at_the_first_loss_and_leaves_a_constant_alone():
    tried = rate_test.sweep("sgd")
    smoothed, found = rate_test.suggest(tried, np.full(len(tried), 1.7))
    assert np.allclose(smoothed, 1.7)
    assert found is None


def test_a_steady_fall_stays_a_decade_below_the_end():
    tried = rate_test.sweep("adam")
    found = rate_test.suggest(tried, 3 - 0.2 * np.log(tried / tried[0]) + NOISE)[1]
    assert tried[0] <= found <= tried[-1] / 10 * 1.0001


@pytest.mark.parametrize("shape", [0, 1])
def test_a_loss_that_never_falls_gives_nothing(shape):
    tried = rate_test.sweep("adam")
    losses = 1.6 + 10 * NOISE + shape * np.maximum(0, np.log10(tried / 1e-3))
    assert rate_test.suggest(tried, losses)[1] is None
    limit = rate_test.rise(tried, rate_test.suggest(tried, losses)[0])
    assert limit is None if shape == 0 else 1e-3 < limit < 1e-1


def test_what_follows_a_loss_that_is_no_number_is_left_out():
    tried = rate_test.sweep("adam")
    losses = valley(tried, end=10.0)
    losses[-20] = np.nan
    losses[-19:] = 0
    smoothed, found = rate_test.suggest(tried, losses)
    assert np.isnan(smoothed[-20:]).all() and np.isfinite(smoothed[:-20]).all()
    assert 1e-4 < found < tried[-20]
    assert rate_test.suggest(tried, np.full(len(tried), np.nan))[1] is None
    assert rate_test.suggest(tried[:1], [2.0])[1] is None


def test_rates_rise_by_one_factor_between_bounds_that_suit_the_optimizer():
    for optimizer, low, high in (("adamw", 1e-6, 1), ("rmsprop", 1e-6, 1), ("sgd", 1e-5, 10)):
        tried = rate_test.sweep(optimizer)
        assert tried[[0, -1]] == pytest.approx([low, high])
        assert np.allclose(np.diff(np.log(tried), 2), 0)


# -- under what an answer is kept ---------------------------------------------------------------


def test_an_answer_survives_its_use_and_not_a_change_that_matters():
    recipe = load_preset("sample")
    assert rate_test.key_recipe(
        load_preset("sample", ["stages.0.learning_rate=0.5", "stages.0.epochs=9"]), 0
    ) == rate_test.key_recipe(recipe, 0)
    # The second stage begins with what the first, at its rate, has learnt.
    changed = load_preset("sample", ["stages.0.learning_rate=0.5"])
    assert rate_test.key_recipe(changed, 1) != rate_test.key_recipe(recipe, 1)
    changed = load_preset("sample", ["stages.0.optimizer=sgd"])
    assert rate_test.key_recipe(changed, 0) != rate_test.key_recipe(recipe, 0)
    key = rate_test.key_recipe(recipe, 1)
    assert type(recipe).from_dict(key.to_dict()) == key
    for place in (-1, 2):
        with pytest.raises(RecipeError, match="1 to 2"):
            rate_test.key_recipe(recipe, place)


def test_what_is_printed_can_be_set():
    setting = rate_test.setting(1, 3.16e-4)
    assert load_preset("sample", [setting]).stages[1].learning_rate == rate_test.rounded(3.16e-4)


# -- the test itself ----------------------------------------------------------------------------


ONCE = "stages=[{name: once, trainable: last 1 block}]"


def ask_here(recipe, home, stage):
    """`ask` without a process of its own, which for later tests would have determinism on."""
    from engine.estimate import rate_test_worker

    prepare_worker.ingest(recipe.dataset, home)
    key = rate_test.key_recipe(recipe.model_copy(update={"deterministic": False}), stage)
    return rate_test_worker.measure(key, home, stage, silent)


def ask(recipe, home, stage):
    prepare_worker.ingest(recipe.dataset, home)
    key = rate_test.key_recipe(recipe, stage)
    probes.start("rates", key, home, stage)
    return probes.wait("rates", key, home, stage)


@pytest.mark.parametrize(
    ("stage", "sets", "words"),
    [
        (0, [], "stage frozen"),
        (1, [], "stage frozen runs the whole network and was replaced by"),
        (1, ["augmentation=none", "batch_size=16", "class_weights=balanced"], "stage unfrozen"),
    ],
)
def test_the_sample_gives_a_rate_between_the_bounds(graft_home, stage, sets, words):
    recipe = fixed(*sets)
    result = ask_here(recipe, graft_home, stage)
    tried = rate_test.sweep(recipe.stages[stage].optimizer)
    assert tried[0] <= result["suggestion"] <= tried[-1] / 10
    assert words in result["text"]
    # Stages that can be cached are trained as in the recipe; nothing replaces them.
    assert ("steps of the head alone" in result["text"]) == (stage == 1 and not sets)
    assert len(result["rates"]) == len(result["losses"]) == len(result["smoothed"])
    assert result["rates"] == pytest.approx(tried[: len(result["rates"])])
    assert np.isfinite(result["losses"][:10]).all()
    # What is suggested is a recipe that can be trained.
    used = rate_test.setting(stage, result["suggestion"])
    assert fixed(*sets, used).stages[stage].learning_rate > 0
    figure = charts_rates.rate_range(result)
    assert [trace.name for trace in figure.data] == ["each step", "smoothed"]
    notes = [note.text for note in figure.layout.annotations]
    assert any(note.startswith("suggested") for note in notes)
    assert any(note.startswith("current") for note in notes)
    first, second = figure.layout.shapes
    assert first.line.dash != second.line.dash and first.line.color != second.line.color


def test_the_same_question_gets_the_same_losses(graft_home):
    recipe = fixed(ONCE, "augmentation=none")
    first = ask(recipe, graft_home, 0)
    probes.cancel("rates", rate_test.key_recipe(recipe, 0), graft_home, 0)
    assert ask(recipe, graft_home, 0)["losses"] == first["losses"]


def test_a_chart_without_a_suggestion_or_with_lost_numbers_can_be_drawn():
    result = {
        "rates": [1e-3, 1e-2],
        "losses": [1.0, None],
        "smoothed": [1.0, None],
        "suggestion": None,
        "present": 5.0,
    }
    figure = charts_rates.rate_range(result)
    assert figure.to_json() and len(figure.layout.shapes) == 1
    assert figure.layout.xaxis.range[1] > np.log10(5)


# -- the command --------------------------------------------------------------------------------


def test_the_command_answers_from_what_is_known_and_refuses_a_stage_that_is_not(graft_home):
    # Those of the test above, so that its answer is known.
    sets = ["dataset.images=150", ONCE, "augmentation=none"]
    options = [x for s in sets for x in ("--set", s)]
    done = graft("find-rate", "sample", *options, "--json", home=graft_home)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["present"] == 1e-3 and answer["set"].startswith("stages.0.learning_rate=")
    # Another rate asks the same question, and says what the recipe has now.
    done = graft(
        "find-rate", "sample", *options, "--set", "stages.0.learning_rate=0.5", home=graft_home
    )
    assert "the recipe has 5.0e-01" in done.stdout and answer["set"] in done.stdout

    done = graft("find-rate", "sample", "--stage", 9, home=graft_home)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.strip().count("\n") == 0 and "9 was given" in done.stderr


# -- the page -----------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home of its own."""
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path))
    return homes.home()


def test_the_button_is_there_and_says_why_it_waits_for_the_dataset(home):
    app = open_page("configure")
    for place in (0, 1):
        found = app.button(key=f"find_rate_{place}")
        assert found.label == "Find a learning rate" and found.disabled
        assert "not prepared" in found.proto.help
    prepared(home)
    assert not open_page("configure").button(key="find_rate_0").disabled


def known(home, recipe, place, **answer):
    """Puts an answer where a finished probe leaves it."""
    key = probes.key("rates", rate_test.key_recipe(recipe, place), home, place)
    path = home / "probes" / f"{key}.json"
    path.parent.mkdir(exist_ok=True)
    homes.write_json(path, answer)


def test_a_suggestion_can_be_used_and_keeps_its_chart(home):
    recipe = load_preset("sample")
    prepared(home)
    tried = rate_test.sweep("adam")
    smoothed, _ = rate_test.suggest(tried, valley(tried))
    result = {
        "version": 1,
        "stage": "frozen",
        "rates": tried.tolist(),
        "losses": valley(tried).tolist(),
        "smoothed": smoothed.tolist(),
        "suggestion": 3.21e-4,
        "present": 1e-3,
        "text": "It fell best there.",
    }
    known(home, recipe, 0, result=result)
    app = open_page("configure", preset="sample")
    assert "It fell best there." in said(app)
    button(app, "Use 3.2e-04").click().run()
    assert not app.exception
    rate = next(i for i in app.number_input if i.label.startswith("Learning rate"))
    assert rate.value == 3.2e-4
    assert button(app, "Use 3.2e-04").disabled and "It fell best there." in said(app)


def test_a_test_that_failed_says_so_and_can_be_repeated(home):
    datasets_spec = load_preset("sample").dataset
    prepared(home)
    assert datasets.state(datasets_spec, home)["state"] == "ready"
    known(home, load_preset("sample"), 1, error="the memory ran out; set a smaller batch_size")
    app = open_page("configure", preset="sample")
    assert any("The memory ran out" in item.value for item in app.error)
    assert not app.button(key="find_rate_1").disabled
