"""The exceptions a user may meet; each message is one sentence: what was wrong and what to do.

GraftError
 ├── RecipeError      a recipe that cannot be trained as written (carries the field's path)
 ├── DatasetError     a dataset that cannot be found, read or split
 │    └── LostImageError   one of its images has gone or has changed since it was prepared
 ├── ImageError       bytes that are not an image Graft can read
 ├── BackboneError    an unknown backbone, or weights that cannot be had
 ├── RunError         a run that is missing, unfinished or damaged
 │    └── DamagedModel     one whose model file gives no answers, or is not what was written
 ├── TrainingError    training that cannot go on
 └── DamagedFile      a file of Graft's own that can no longer be read
"""


class GraftError(Exception):
    """Base of all errors that are shown to a user as one sentence, never as a traceback.

    Attributes:
        exit_code: of a command that ends with it.
    """

    exit_code = 2


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


class LostImageError(DatasetError):
    """An image of a prepared dataset that has gone or has changed since.

    Args:
        path: of the file, or words for it.
        why: the reason.
        remedy: what to do.

    Attributes:
        why: the reason alone, without the file's path and the remedy.
    """

    def __init__(self, path, why: str, remedy="put it back or prepare the dataset again"):
        super().__init__(f"{path} {why}; {remedy}")
        self.why = f"it {why}"


class ImageError(GraftError):
    """Bytes that are not an image Graft can read."""


class BackboneError(GraftError):
    """An unknown backbone, or weights that cannot be had."""


class RunError(GraftError):
    """A run that is missing, unfinished or damaged."""


class DamagedModel(RunError):
    """A run's model that gives no probabilities, or whose file is not what was written.

    Args:
        identity: of the run.
        why: a few words.
    """

    exit_code = 1  # the input was good

    def __init__(self, identity: str, why):
        super().__init__(
            f"the model of run {identity} is damaged ({why}); copy the run again from where it is "
            "whole, or train it again, and let python -m engine doctor look for more"
        )


class TrainingError(GraftError):
    """Training that cannot start or go on."""


class DamagedFile(GraftError, ValueError):
    """A file of Graft's own that can no longer be read, such as JSON that was cut off.

    Attributes:
        path: of the file.
        why: a few words.
    """

    def __init__(self, path, why):
        self.path, self.why = path, str(why)
        super().__init__(
            f"{path} is damaged and cannot be read ({why}); python -m engine doctor says what to do"
        )


def unexpected(error: Exception, what: str, log) -> str:
    """Any other exception as one sentence with a remedy.

    Args:
        error: not a GraftError; but one that was raised inside tf.data, and arrives wrapped in one of
            TensorFlow's, is told in its own words.
        what: broke off.
        log: the file, or words for it, that holds the traceback.
    """
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return (
            f"a file could not be read or written ({error.strerror}{where}); check space and rights"
        )
    lines = str(error).strip().splitlines() or [""]
    for line in lines:
        for name in ("DatasetError: ", "ImageError: "):
            if name in line:
                return line.split(name, 1)[1]
    kind = type(error).__name__
    return f"{what} broke off ({kind}: {lines[0][:200]}); the end of {log} says where"
