"""How close Graft is to bare decoding and bare forward passes; in one process, alternating.

Bare means `engine.images.decode.load` over encoded photos, and the converted network over decoded
pixels, each in as many threads as there are cores and with nothing else. Their times are added:
each of them keeps all cores busy.
"""

import statistics
import time

from benchmarks import common

ROUNDS = 2
SINGLES = 50


def run(home, quick) -> dict:
    common.use_worker_environment()
    import numpy as np

    from engine import home as homes
    from engine.models import modeling, session
    from engine.runs import events, runs
    from engine.train import input_pipeline, keep

    recipe = common.photos(False, "resize=antialias", "split={}")
    dataset = common.prepared(recipe, home)
    photos = np.arange(64 if quick else 1000)
    data = [dataset.image_bytes(i) for i in photos.tolist()]
    run = runs.create(recipe, home)
    session.prepare_device(recipe, events.EventLog(run.path / "events.jsonl"))
    bundle = modeling.build(recipe, list(dataset.classes), home)
    # Enough of a finished run to predict; the head's weights do not change the time.
    architecture = modeling.architecture(bundle) | {"classes": list(dataset.classes)}
    homes.write_json(run.path / "architecture.json", architecture)
    common.say("writing a classifier")
    keep.write(bundle, run.path)
    pixels = input_pipeline.Pixels(dataset, photos, recipe.image_size, recipe.resize, 2048)
    pixels.get(photos)
    rounds = 1 if quick else ROUNDS
    found = {
        "features": features(bundle, recipe, dataset, photos, data, pixels, home, rounds),
        "batch": batch(run, data, pixels, photos, rounds),
        "single": single(run, data, pixels, 5 if quick else SINGLES),
        "steps": steps(bundle, recipe, dataset, photos[: 64 if quick else 320], pixels, rounds),
    }
    run.update(status="finished")
    return {"rows": rows(found, len(photos)), "figures": found}


def timed(function) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def bare_decode(data, recipe) -> float:
    from engine.host import parallel
    from engine.images import decode as images

    def one(content):
        images.load(content, recipe.image_size, recipe.resize)

    return timed(lambda: consume(parallel.ordered_map(one, data, parallel.cores())))


def bare_forward(network, pixels, photos) -> float:
    from engine.host import parallel

    images = list(pixels.get(photos))
    return timed(lambda: consume(parallel.ordered_map(network, images, network.threads)))


def consume(iterator) -> None:
    for _ in iterator:
        pass


def features(bundle, recipe, dataset, photos, data, pixels, home, rounds) -> dict:
    """The feature pass of a frozen stage, and its components."""
    from engine.features import cache, compute
    from engine.models import litert, modeling
    from engine.train import input_pipeline

    modeling.apply_stage(bundle, recipe.stages[0])
    cut = len(photos) * 4 // 5
    split = {"train": photos[:cut], "validation": photos[cut:]}

    def fill():
        common.forget_features(home)
        fresh = input_pipeline.Pixels(dataset, photos, recipe.image_size, recipe.resize, 2048)
        quiet = lambda *_: None  # noqa: E731
        images = compute.Images(dataset, fresh, split, keep=False)
        cached, why = compute.prepare(bundle, recipe, 0, images, home, quiet)
        if why:
            raise RuntimeError(f"no features: {why}")
        cached.close()
        if cached.facts["computed"] != len(photos):
            raise RuntimeError(f"{cached.facts['computed']} of {len(photos)} features computed")
        return cached.facts["seconds"]

    common.say("feature pass")
    fill()  # converts the backbone
    converted = [e for e in cache.entries(home) if e.kind == "networks"]
    network = litert.Network(converted[0].path / "network.tflite")
    found = {"decode": [], "forward": [], "graft": []}
    for _ in range(rounds):
        found["decode"].append(bare_decode(data, recipe))
        found["forward"].append(bare_forward(network, pixels, photos))
        found["graft"].append(fill())
    return found


def batch(run, data, pixels, photos, rounds) -> dict:
    """Predictions of many photos, and their components."""
    from engine import Classifier
    from engine.models import litert

    common.say("batch prediction")
    classifier = Classifier(run)
    network = litert.Network(run.path / "inference.tflite")
    found = {"decode": [], "forward": [], "graft": []}
    for _ in range(rounds):
        found["decode"].append(bare_decode(data, run.recipe))
        found["forward"].append(bare_forward(network, pixels, photos))
        found["graft"].append(timed(lambda: classifier.predict(data, keep_images=False)))
    return found


def single(run, data, pixels, count) -> dict:
    """One photo at a time with a warm classifier; medians, alternating photo by photo."""
    from engine import Classifier
    from engine.images import decode as images
    from engine.models import litert

    common.say("single predictions")
    classifier = Classifier(run)
    network = litert.Network(run.path / "inference.tflite", 1)
    recipe = run.recipe
    bare, graft = [], []
    for content in data[: count + 5]:
        bare.append(timed(lambda c=content: network(images.load(c, 224, recipe.resize))))
        graft.append(timed(lambda c=content: classifier.predict([c])))
    # The first few are slower for both: caches are filled and threads started.
    return {"bare": statistics.median(bare[5:]), "graft": statistics.median(graft[5:])}


def steps(bundle, recipe, dataset, photos, pixels, rounds) -> dict:
    """Training steps of all layers and TensorFlow's bare forward pass, in images/s."""
    import keras
    import tensorflow as tf

    from engine.models import modeling, optimizers
    from engine.train import input_pipeline

    common.say("training steps")
    stage = recipe.stages[1].model_copy(update={"batch_norm": "keep", "epochs": 1})
    recipe = recipe.model_copy(update={"stages": (stage,)})
    modeling.apply_stage(bundle, stage)
    model, labels, classes = bundle.model, dataset.labels, len(dataset.classes)
    model.compile(
        optimizer=optimizers.optimizer(stage, 10),
        loss=keras.losses.CategoricalCrossentropy(),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=False,
    )
    size = recipe.image_size
    forward = tf.function(
        lambda x: model(x, training=False),
        input_signature=[tf.TensorSpec((recipe.batch_size, size, size, 3), tf.float32)],
    )
    batches = [
        tf.constant(pixels.get(photos[i : i + recipe.batch_size]), tf.float32)
        for i in range(0, len(photos) - recipe.batch_size + 1, recipe.batch_size)
    ]

    def train():
        examples = input_pipeline.Examples(pixels, photos, labels, classes)
        data = input_pipeline.training_batches(examples, recipe, 0)
        model.fit(data, steps_per_epoch=-(-len(photos) // recipe.batch_size), verbose=0)

    def run_forward():
        for each in batches:
            forward(each).numpy()

    train()  # traces the graphs, as does the next line
    run_forward()
    found = {"forward": [], "graft": []}
    for _ in range(rounds):
        found["forward"].append(len(batches) * recipe.batch_size / timed(run_forward))
        found["graft"].append(len(photos) / timed(train))
    return found


def rows(found, count) -> list:
    def sums(part):
        return [a + b for a, b in zip(part["decode"], part["forward"], strict=True)]

    def made_of(part):
        decode, forward = (count / common.mean(part[k]) for k in ("decode", "forward"))
        return f"bare: decoding {decode:,.0f} images/s, forward pass {forward:,.0f} images/s"

    features, batch, single, steps = (found[k] for k in ("features", "batch", "single", "steps"))
    return [
        common.row(
            f"feature pass, {count:,} photos, MobileNetV2 0.35",
            sums(features),
            features["graft"],
            "s",
            1.25,
            made_of(features),
        ),
        common.row(
            f"batch prediction, {count:,} photos",
            sums(batch),
            batch["graft"],
            "s",
            1.25,
            made_of(batch),
        ),
        common.row(
            "single prediction, warm, median",
            [1000 * single["bare"]],
            [1000 * single["graft"]],
            "ms",
            1.5,
            "baseline: decoding and forward pass in one thread",
        ),
        common.row(
            "training step, all layers, batch norm kept",
            [speed / 3 for speed in steps["forward"]],
            steps["graft"],
            "images/s",
            note="baseline: a third of TensorFlow's bare forward pass, as a step costs about "
            "three; more is better",
        ),
    ]
