"""The answers of the endpoint, as they are sent and as its OpenAPI document describes them."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile

from engine.host.words import shown
from engine.images.memory import return_memory
from engine.predict.classifier import Answer, Classifier
from engine.predict.confidence import MEANING, Confidence, Verdict
from engine.serve.limits import Bounds

_KINDS = "; ".join(f'"{kind}": {meaning}' for kind, meaning in MEANING.items())


class Label(BaseModel):
    """A class and its probability, 0 to 1."""

    label: str
    probability: float


class Classified(BaseModel):
    """The answer for one file: label, probability and top, or else error.

    sure, likely and distance are null where the run has no confidence data.
    """

    name: str
    label: str | None
    probability: float | None
    top: list[Label]
    sure: str | None = Field(description=_KINDS)
    likely: list[str] | None = Field(description="the likely classes, most probable first")
    distance: float | None = Field(description="to the nearest training images, 0 to 2")
    error: str | None
    seconds: float


class Answers(BaseModel):
    """One answer for each file, in their order."""

    run: str
    answers: list[Classified]


class Problem(BaseModel):
    """What went wrong, in one sentence."""

    error: str


def classified(
    classifier: Classifier, known: Confidence | None, files: Sequence[UploadFile], top: int
) -> Answers:
    """Classifies uploaded files, which are read one after another, not all at once.

    Args:
        classifier: of the run.
        known: the run's confidence, or None.
        files: open; each has a file name.
        top: number of the likeliest classes to list.
    """
    answers = classifier.predict((file.file.read() for file in files), keep_images=False)
    return_memory()
    verdicts = known.verdicts(answers) if known else [None] * len(answers)
    rows = [
        _row(answer, verdict, shown(file.filename or ""), top)
        for answer, verdict, file in zip(answers, verdicts, files, strict=True)
    ]
    return Answers(run=classifier.run.id, answers=rows)


def _row(answer: Answer, verdict: Verdict | None, name: str, top: int) -> Classified:
    best = [] if answer.error else answer.top(top)
    label, probability = best[0] if best else (None, None)
    return Classified(
        name=name,
        label=label,
        probability=probability,
        top=[Label(label=each, probability=p) for each, p in best],
        sure=verdict.kind if verdict else None,
        likely=verdict.likely if verdict else None,
        distance=verdict.distance if verdict else None,
        error=answer.error,
        seconds=answer.seconds,
    )


def about(classifier: Classifier, bounds: Bounds) -> dict:
    """What is served: run, classes, test accuracy with its 95% interval, and limits."""
    run = classifier.run
    test = (run.evaluation or {}).get("test")
    return {
        "run": run.id,
        "name": run.recipe.name,
        "backbone": run.recipe.backbone.title,
        "classes": classifier.classes,
        "image_size": classifier.size,
        "test": test and {key: test[key] for key in ("n", "accuracy", "interval")},
        "temperature": classifier.temperature,
        "limits": {
            "file_bytes": bounds.file_bytes,
            "files": bounds.files,
            "request_bytes": bounds.request_bytes,
            "requests_a_minute": bounds.rate,
        },
    }
