"""Graft's engine: a recipe goes in, a run comes out.

Importing this package, and every module marked *light* below, never imports TensorFlow or Keras,
so a page, a notebook or a script can list runs and classify images at once.

Light: recipe, images, augment, sample, datasets, unreadable, backbones, freezing, events, runs, jobs,
queue, supervisor, checkpoint, limits, settings, litert, classifier, reference, confidence, explanation,
batches, feedback, exporting, serving, importing, cache, features, probes, preflight, rates, charts, trash,
doctor, worker (until it trains). Heavy (TensorFlow inside): input_pipeline, modeling, batch_norm, boundary,
frozen, precision, resume, stages, continuing, training, export, export_formats, import_check, probe,
preflight_measure, rate_finder.

    from engine import jobs, load_preset, Classifier
    run = jobs.train(load_preset("sample"))          # in its own process; a Run to look at
    print(run.evaluation["test"]["accuracy"])
    print(Classifier(run).predict(["photo.jpg"])[0].top(3))
"""

from engine.errors import GraftError

__all__ = ["Classifier", "GraftError", "Recipe", "Run", "load_preset"]
__version__ = "0.1.0"


def __getattr__(name):
    """Load the public names on first use: a page pays only for what it shows."""
    if name in ("Recipe", "load_preset"):
        from engine import recipe as module
    elif name == "Run":
        from engine.runs import runs as module
    elif name == "Classifier":
        from engine.predict import classifier as module
    else:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    return getattr(module, name)
