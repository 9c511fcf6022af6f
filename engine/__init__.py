"""Graft's engine: a recipe goes in, a run comes out.

    from engine import jobs, load_preset, Classifier
    run = jobs.train(load_preset("sample"))          # in a process of its own; returns a Run
    print(run.evaluation["test"]["accuracy"])
    print(Classifier(run).predict(["photo.jpg"])[0].top(3))

Importing this package never imports TensorFlow or Keras, so a page, a notebook or a script can list
runs and classify images at once. `docs/architecture.md` says which packages are heavy, and
the import contracts in pyproject.toml keep them apart.
"""

from typing import TYPE_CHECKING, Any

from engine.errors import GraftError

if TYPE_CHECKING:
    from engine.predict.classifier import Classifier
    from engine.recipe import Recipe, load_preset
    from engine.runs.runs import Run

__all__ = ["Classifier", "GraftError", "Recipe", "Run", "load_preset"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Loads the public names on first use: a page pays only for what it shows."""
    module: Any
    if name in ("Recipe", "load_preset"):
        from engine import recipe as module
    elif name == "Run":
        from engine.runs import runs as module
    elif name == "Classifier":
        from engine.predict import classifier as module
    else:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    return getattr(module, name)
