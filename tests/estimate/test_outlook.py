"""How long a run still takes: synthetic events with clocks given as values; nothing is timed."""

import json
import shutil

import numpy as np
import pytest

from engine import home as homes
from engine.estimate import guesses, outlook
from engine.estimate.guesses import Known
from engine.estimate.outlook import Outlook
from engine.features import store
from engine.recipe import load_preset
from engine.runs import remaining, runs

COUNTS = {"train": 390, "validation": 90, "test": 120}
STEPS = 13
PARTS = {
    "start": 8.0, "data": 4.0, "model": 2.0,
    "0:features": 30.0, "0:setup": 3.0, "0:epoch": 1.0,
    "1:features": 0.0, "1:setup": 12.0, "1:epoch": 20.0,
    "export": 10.0, "evaluation": 6.0, "reference": 15.0, "check": 3.0,
}  # fmt: skip
RECIPE = load_preset(
    "sample", ["augmentation={flip: horizontal}", "stages.0.epochs=4", "stages.1.epochs=6"]
)


def story(parts, recipe=RECIPE):
    """The events of a run whose parts take so long: (its seconds, [(when, kind, event)])."""
    now, step, found = 0.0, 0, []

    def phase(name, part, total=None):
        nonlocal now
        for done in range(0, (total or 0) + 1, 10):
            event = {"phase": name, "text": part, "done": done, "total": total}
            found.append((now + parts[part] * done / (total or 1), "phase", event))
        now += parts[part]

    phase("start", "start")
    phase("data", "data")
    phase("model", "model")
    found.append((now, "start", {"counts": COUNTS}))
    for number, stage in enumerate(recipe.stages):
        if parts[f"{number}:features"]:
            phase("features", f"{number}:features", 200)
        phase("training", f"{number}:setup")
        found[-1] = (found[-1][0], "stage_start", {"stage": number})
        for epoch in range(stage.epochs):
            each = parts[f"{number}:epoch"]
            training = each * 0.9
            for batch in range(1, STEPS + 1):
                step += 1
                when = now + training * (batch - (epoch == 0)) / STEPS
                found.append((when, "batch", {"step": step, "loss": 1.0, "stage": number}))
            now += each
            ended = {"step": step, "epoch": epoch, "loss": 1.0, "stage": number}
            ended |= {"seconds": each, "images_per_second": COUNTS["train"] / training}
            found.append((now, "epoch", ended))
        found.append((now, "stage_end", {"stage": number}))
    for part in ("export", "evaluation"):
        phase(part, part)
    phase("reference", "reference", 200)
    phase("check", "check")
    return now, found


def told(parts, before, recipe=RECIPE):
    """What is shown each second: [(when, true seconds left, a Remaining)], and the Outlook."""
    whole, events = story(parts, recipe)
    follows, written, shown = Outlook(recipe, before, 0.0), [], []
    for now in range(int(whole)):
        while events and events[0][0] <= now:
            when, kind, event = events.pop(0)
            follows.take(kind, event, when)
            left = follows.left(when) if kind in outlook.CARRIES else None
            written.append({"t": when, "event": kind, **event} | ({"left": left} if left else {}))
        shown.append((now, whole - now, remaining.remaining(written, now)))
    return shown, follows, whole


def worst(shown, since=0.1):
    """The largest ratio between predicted and true, until 5 s before the end."""
    ratios = [
        max(found.seconds / true, true / found.seconds)
        for now, true, found in shown
        if true >= 5 and now >= since * shown[-1][0]
    ]
    return max(ratios)


def predicted(parts):
    """A preflight's result for these parts."""
    rows = [
        dict.fromkeys(("conversion_seconds", "check_seconds", "decode_seconds"), 0.0)
        | {f"{name}_seconds": parts[f"{number}:{of}"] for name, of in NAMES}
        for number in (0, 1)
    ]
    start = parts["start"] + parts["model"]
    finish = {part: parts[part] for part in remaining.FINISHING}
    return {
        "startup_seconds": start, "stages": rows, "finish": finish,
        "finish_seconds": sum(finish.values()),
    }  # fmt: skip


NAMES = (("feature", "features"), ("setup", "setup"), ("epoch", "epoch"))


def test_with_a_preflight_the_time_left_is_right_from_the_first_tenth_on():
    shown, _, _ = told(PARTS, Known(600, predicted=predicted(PARTS)))
    assert worst(shown) < 1.15


def test_a_first_run_without_a_preflight_corrects_its_guesses():
    """The host is three times as slow as guessed; the start alone takes 30% of the time."""
    first = Outlook(RECIPE, Known(600), 0.0)
    shown, _, _ = told({part: 3 * first._prior(part) for part in PARTS}, Known(600))
    assert worst(shown, 0.33) < 1.6


def test_a_run_learns_from_earlier_ones_on_this_host():
    _, follows, whole = told(PARTS, Known(600))
    paces = follows.keep({}, whole)
    shown, _, _ = told(PARTS, Known(600, paces=paces))
    assert worst(shown) < 1.15
    other = RECIPE.model_copy(update={"image_size": 128})
    assert guesses.key(other, "1:epoch", [False, True], Known()) not in paces


def test_a_busy_host_corrects_what_a_preflight_said():
    busy = {part: 3 * seconds for part, seconds in PARTS.items()}
    shown, _, _ = told(busy, Known(600, predicted=predicted(PARTS)))
    assert worst(shown, 0.25) < 1.5


def test_features_in_the_cache_take_no_time():
    """390 images in two views, and 90 in one."""
    without, with_ = (Outlook(RECIPE, Known(600, records=n), 0.0) for n in (0, 870))
    assert with_.left(0.0)["seconds"] < without.left(0.0)["seconds"]
    assert guesses.units(RECIPE, "0:features", COUNTS, Known(600, records=870)) == 0


def test_the_share_never_falls_and_is_never_all_before_the_end():
    slow = {part: 2 * seconds for part, seconds in PARTS.items()}
    for parts in (PARTS, slow | {"check": 60.0}):
        shares = [found.share for _, _, found in told(parts, Known(600))[0]]
        assert shares == sorted(shares) and shares[-1] <= 0.99


def test_early_stopping_makes_it_an_upper_bound():
    stages = [stage.model_copy(update={"early_stopping": 2}) for stage in RECIPE.stages]
    recipe = RECIPE.model_copy(update={"stages": [RECIPE.stages[0], stages[1]]})
    shown, _, whole = told(PARTS, Known(600), recipe)
    texts = {now: found.text for now, _, found in shown}
    assert texts[0].startswith("at most") and texts[100].startswith("at most")
    assert texts[int(whole) - 1].startswith("about")  # its training is over


def test_a_dataset_of_unknown_size_has_no_time_left_until_it_is_counted():
    follows = Outlook(RECIPE, Known(None, prepared=False), 0.0)
    assert follows.left(0.0) is None
    follows.take("phase", {"phase": "data", "text": "Checking", "done": 0, "total": 600}, 9.0)
    assert follows.left(9.0)["seconds"] > 10


def test_a_resumed_run_counts_what_is_left_of_it():
    """What came before its checkpoint is over; the time at work before the pause counts."""
    before = Known(600, predicted=predicted(PARTS))
    resumed = Outlook(RECIPE, before, 0.0, spent=100.0)
    whole = resumed.left(0.0)["seconds"]
    for now, name in ((0.0, "start"), (8.0, "data"), (8.0, "model"), (10.0, "training")):
        if name == "training":
            resumed.take("resume", {"stage": 1, "epoch": 4, "step": 104}, now)
        resumed.take("phase", {"phase": name, "text": name, "done": 0, "total": None}, now)
    left = resumed.left(10.0)
    # Setup, two of six epochs, and the end.
    assert left["seconds"] == pytest.approx(12 + 2 * 20 + 34, rel=0.1) and left["seconds"] < whole
    assert left["share"] == pytest.approx(110 / (110 + left["seconds"]), abs=0.01)


# -- what is shown between two events, and after a stop --------------------------------------


def event(seconds=60.0, later=20.0, finish=15.0, share=0.5, phase="training", at_most=False):
    left = {"seconds": seconds, "later": later, "finish": finish, "share": share}
    return {"t": 100.0, "event": "phase", "phase": phase, "left": left | {"at_most": at_most}}


def test_between_two_events_the_clock_goes_on():
    at = [remaining.remaining([event()], now) for now in (100, 110, 130, 500)]
    assert [found.seconds for found in at[:3]] == [60, 50, 30]
    assert at[3].seconds == 60  # what comes later is still to come, on a host that is slow
    assert [found.share for found in at] == sorted(found.share for found in at)
    assert at[3].share < 1
    assert remaining.remaining([event(), {"t": 101.0, "event": "end"}], 102) is None
    assert remaining.remaining([], 102) is None


def test_a_stop_leaves_only_the_end():
    found = remaining.remaining([event(at_most=True)], 100.0, stopping=True)
    assert found.seconds == 15 and found.text == "about 15 s left"
    already = remaining.remaining([event(8.0, 2.0, phase="evaluation")], 100.0, stopping=True)
    assert already.seconds == 8


@pytest.mark.parametrize(
    ("asked", "fields", "words"),
    [
        ("stop", {}, "Stopping: evaluating and saving the best model so far, about"),
        ("stop", {"finish": None, "phase": "features"}, "nothing has been trained yet"),
        ("stop", {"phase": "export"}, "Finishing: evaluating and saving the best model, about"),
        ("pause", {}, "Pausing: saving a checkpoint and freeing the device"),
    ],
)
def test_a_run_says_what_it_still_does_as_soon_as_somebody_asked(
    own_home, monkeypatch, asked, fields, words
):
    run = runs.create(load_preset("sample"), own_home)
    monkeypatch.setattr(runs.processes, "alive", lambda state: True)
    run.update(status="running")
    line = event(**fields)
    (run.path / "events.jsonl").write_text(json.dumps(line) + "\n")
    assert remaining.stopping(run) == "" and run.shown_status == "running"
    (run.path / asked).touch()
    assert words in remaining.stopping(run)
    assert run.shown_status == {"stop": "stopping", "pause": "pausing"}[asked]


# -- whatever happens ------------------------------------------------------------------------


def test_a_deleted_cache_ends_no_run(own_home):
    run, cache = runs.create(RECIPE, own_home), own_home / homes.CACHE
    title = f"{RECIPE.dataset.title}, {RECIPE.backbone.name} frozen, {RECIPE.image_size} px"
    views = store.layout(RECIPE)[0]
    (cache / "features" / "evicted").mkdir(parents=True)
    about = {"title": title, "views": views}
    homes.write_json(cache / "features" / "evicted" / "identity.json", about)
    assert guesses._records(RECIPE, own_home) == 0
    timed = outlook.Timed(run, None, 0.0)
    shutil.rmtree(cache)
    timed.keep()


def test_no_order_of_events_breaks_it():
    events = story(PARTS)[1]
    events.append((0.0, "resume", {"stage": 1, "epoch": 2, "step": 80}))
    for seed in range(200):
        random = np.random.default_rng(seed)
        follows, now, share = Outlook(RECIPE, Known(600), 0.0), 0.0, 0.0
        for number in random.integers(0, len(events), 40):
            now += random.choice([0.0, 0.1, 5.0, 500.0])
            follows.take(*events[number][1:], now)
            left = follows.left(now)
            assert 1 <= left["seconds"] < 1e7 and left["later"] >= 0
            assert share <= left["share"] <= 0.99
            share = left["share"]
