import keras
import numpy as np
import pytest

from engine.models.optimizers import optimizer
from engine.recipe import StageSpec
from engine.recipe.schedules import learning_rates

SCHEDULES = {
    "constant": {"learning_rate": 0.01},
    "inverse_time": {"learning_rate": 0.2, "decay_rate": 0.01},
    "exponential": {"learning_rate": 0.1, "decay_rate": 0.5},
    "cosine": {"learning_rate": 3e-4},
    "cosine with warm-up": {"learning_rate": 3e-4, "warmup_epochs": 1.5},
}


def staged(kind, **more):
    return StageSpec(schedule=kind.split()[0], epochs=4, **SCHEDULES[kind], **more)


def keras_own(stage, steps_per_epoch):
    """Keras' own schedule of the same kind: the check from outside."""
    kinds, rate = keras.optimizers.schedules, stage.learning_rate
    steps = stage.epochs * steps_per_epoch
    warm = round(stage.warmup_epochs * steps_per_epoch)
    return {
        "constant": lambda: lambda step: rate,
        "inverse_time": lambda: kinds.InverseTimeDecay(rate, 1, stage.decay_rate),
        "exponential": lambda: kinds.ExponentialDecay(rate, steps_per_epoch, stage.decay_rate),
        "cosine": lambda: (
            kinds.CosineDecay(0.0, steps - warm, warmup_target=rate, warmup_steps=warm)
            if warm
            else kinds.CosineDecay(rate, steps)
        ),
    }[stage.schedule]()


@pytest.mark.parametrize("kind", SCHEDULES)
def test_each_step_uses_the_rate_of_the_curve_which_is_keras_own(kind):
    stage = staged(kind)
    made, theirs = optimizer(stage, 7), keras_own(stage, 7)
    variable = keras.Variable(np.zeros(1, "float32"))
    made.build([variable])
    seen = []
    for _ in range(4 * 7):
        seen.append(float(made.learning_rate))
        made.apply([keras.ops.zeros(1)], [variable])
    rates = learning_rates(stage, 7)
    np.testing.assert_allclose(seen, rates, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(rates, [float(theirs(s)) for s in range(28)], rtol=2e-5, atol=1e-9)


def test_a_warm_up_has_a_rate_of_its_own_and_only_where_epochs_are_short():
    more = {"warmup_epochs": 1, "warmup_rate": 1e-4, "warmup_below": 40}
    short = learning_rates(StageSpec(schedule="cosine", epochs=5, learning_rate=3e-4, **more), 18)
    assert short[0] == 0 and short[:18].max() <= 1e-4
    assert short[18] == pytest.approx(3e-4) and short[18:].argmax() == 0
    stage = StageSpec(schedule="cosine", epochs=5, learning_rate=3e-4, **more)
    plain = stage.model_copy(update={"warmup_epochs": 0})
    np.testing.assert_array_equal(learning_rates(stage, 40), learning_rates(plain, 40))
    # A warm-up never rises above the stage's own rate.
    low = stage.model_copy(update={"learning_rate": 5e-5})
    assert learning_rates(low, 18).max() == pytest.approx(5e-5)


def test_cosine_rises_from_zero_to_the_rate_and_falls_towards_zero():
    rates = learning_rates(staged("cosine with warm-up"), 10)
    assert rates.shape == (40,) and rates[0] == 0
    assert rates.argmax() == 15 and rates[15] == pytest.approx(3e-4)
    assert 0 < rates[-1] < 2e-6


def test_inverse_time_is_the_reference_recipes_decay():
    rates = learning_rates(staged("inverse_time"), 7)
    assert rates[10] == pytest.approx(0.2 / (1 + 0.01 * 10))


def test_exponential_multiplies_once_an_epoch():
    rates = learning_rates(staged("exponential"), 7)
    assert rates[[0, 7, 14]] == pytest.approx([0.1, 0.05, 0.025])


@pytest.mark.parametrize(
    "name, kind", [("sgd", "SGD"), ("adam", "Adam"), ("adamw", "AdamW"), ("rmsprop", "RMSprop")]
)
def test_optimizers_take_momentum_and_weight_decay(name, kind):
    made = optimizer(StageSpec(optimizer=name, momentum=0.7, weight_decay=0.1), 5)
    assert type(made).__name__ == kind and made.weight_decay == pytest.approx(0.1)
    if name in ("sgd", "rmsprop"):
        assert made.momentum == 0.7
    plain = optimizer(StageSpec(optimizer=name), 5)
    assert not plain.weight_decay
