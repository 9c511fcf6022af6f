"""The exceptions a user may meet; each message is one sentence: what was wrong and what to do.

GraftError
 ├── RecipeError      a recipe that cannot be trained as written (carries the field's path)
 ├── DatasetError     a dataset that cannot be found, read or split
 ├── ImageError       bytes that are not an image Graft can read
 ├── BackboneError    an unknown backbone, or weights that cannot be had
 ├── RunError         a run that is missing, unfinished or damaged
 └── TrainingError    training that cannot go on
"""


class GraftError(Exception):
    """Base of all errors that are shown to a user as one sentence, never as a traceback."""


class RecipeError(GraftError):
    """A recipe that breaks a rule.

    Attributes:
        problems: `{field path: sentence}`, for example
            `{"stages.0.epochs": "must be at most 1000; 5000 was given"}`.
    """

    def __init__(self, problems):
        self.problems = {"": problems} if isinstance(problems, str) else dict(problems)
        super().__init__("; ".join(f"{k}: {v}" if k else v for k, v in self.problems.items()))


class DatasetError(GraftError):
    """A dataset that cannot be found, read or split."""


class ImageError(GraftError):
    """Bytes that are not an image Graft can read."""


class BackboneError(GraftError):
    """An unknown backbone, or weights that cannot be had."""


class RunError(GraftError):
    """A run that is missing, unfinished or damaged."""


class TrainingError(GraftError):
    """Training that cannot start or go on."""
