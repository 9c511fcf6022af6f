"""The exceptions a user can see; each message is one sentence: what is wrong and what to do.

GraftError
 ├── RecipeError      a recipe that cannot be trained as written (has the field's path)
 ├── DatasetError     a dataset that cannot be found, read or split
 │    └── LostImageError   one of its images is gone or has changed since it was prepared
 ├── ImageError       bytes that are not an image Graft can read
 ├── BackboneError    an unknown backbone, or weights that cannot be loaded
 ├── RunError         a run that is missing, unfinished or damaged
 │    └── DamagedModel     its model file gives no answers, or has changed since it was written
 ├── TrainingError    training that cannot start or continue
 ├── DamagedFile      a file that Graft wrote and can no longer read
 ├── ReadOnlyHome     a home that can be looked at, where nothing can be written
 └── DiskError        a disk that is full, or a file that may not be read or written
"""

import errno
from collections.abc import Mapping
from pathlib import Path


class GraftError(Exception):
    """Base of all errors that are shown to a user as one sentence, never as a traceback.

    Attributes:
        exit_code: of a command that fails with it.
    """

    exit_code = 2


class RecipeError(GraftError):
    """A recipe that breaks a rule.

    Attributes:
        problems: `{field path: sentence}`, for example
            `{"stages.0.epochs": "must be at most 1000; 5000 was given"}`.
    """

    def __init__(self, problems: str | Mapping[str, str]) -> None:
        self.problems = {"": problems} if isinstance(problems, str) else dict(problems)
        super().__init__("; ".join(f"{k}: {v}" if k else v for k, v in self.problems.items()))


class DatasetError(GraftError):
    """A dataset that cannot be found, read or split."""


class LostImageError(DatasetError):
    """An image of a prepared dataset that is gone or has changed since.

    Args:
        path: the file, or words for it.
        why: the reason.
        remedy: what to do.

    Attributes:
        why: the reason alone, without the file's path and the remedy.
    """

    def __init__(
        self, path: object, why: str, remedy: str = "put it back or prepare the dataset again"
    ) -> None:
        super().__init__(f"{path} {why}; {remedy}")
        self.why = f"it {why}"


class ImageError(GraftError):
    """Bytes that are not an image Graft can read."""


class BackboneError(GraftError):
    """An unknown backbone, or weights that cannot be loaded."""


class RunError(GraftError):
    """A run that is missing, unfinished or damaged."""


class DamagedModel(RunError):
    """A run's model that gives no probabilities, or whose file has changed since it was written.

    Args:
        identity: the run's id.
        why: a few words.
    """

    exit_code = 1  # the input was good

    def __init__(self, identity: str, why: object) -> None:
        super().__init__(
            f"the model of run {identity} is damaged ({why}); python -m engine doctor --fix makes "
            "it again, if the rest allows it; otherwise copy the run again, or train it again"
        )


class TrainingError(GraftError):
    """Training that cannot start or continue."""


class DamagedFile(GraftError, ValueError):
    """A file that Graft wrote and can no longer read, such as JSON that was cut off.

    Attributes:
        path: the file.
        why: a few words.
    """

    def __init__(self, path: Path, why: object) -> None:
        self.path, self.why = path, str(why)
        super().__init__(
            f"{path} is damaged and cannot be read ({why}); python -m engine doctor says what to do"
        )


class ReadOnlyHome(GraftError):
    """A home that can be looked at and predicted from, where nothing can be written.

    Args:
        home: the folder.
    """

    def __init__(self, home: object) -> None:
        super().__init__(
            f"Graft's home {home} is read-only, so nothing can be started, changed or deleted; set "
            "GRAFT_HOME to a folder you can write to"
        )


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of writing to a disk, a quota or a limit that is full."""
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


class DiskError(GraftError):
    """A disk that is full, or a file that may not be read or written."""

    exit_code = 1  # the input was good

    @classmethod
    def of(cls, error: Exception) -> "DiskError | None":
        """The error of a full disk or of missing rights as one sentence; None for any other."""
        if not isinstance(error, OSError):
            return None
        where = f"{error.filename!s} could not be" if error.filename else "a file could not be"
        if error.errno in FULL:
            return cls(
                f"{where} written ({error.strerror}); free some space, for example with python -m "
                "engine cache --clear, or use another disk"
            )
        if error.errno in _REFUSED:
            return cls(
                f"{where} read or written ({error.strerror}); change its permissions, or set "
                "GRAFT_HOME to a folder you can write to"
            )
        return None


def unexpected(error: Exception, what: str, log: object) -> str:
    """Any other exception as one sentence with a remedy.

    Args:
        error: not a GraftError. One that was raised inside tf.data arrives wrapped in an error of
            TensorFlow's; its own sentence is returned.
        what: the work that failed, such as "training".
        log: the file, or words for it, that has the traceback.
    """
    if known := DiskError.of(error):
        return str(known)
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return (
            f"a file could not be read or written ({error.strerror}{where}); check free space and "
            "permissions"
        )
    lines = str(error).strip().splitlines() or [""]
    for line in lines:
        for name in ("DatasetError: ", "ImageError: "):
            if name in line:
                return line.split(name, 1)[1]
    kind = type(error).__name__
    return f"{what} stopped unexpectedly ({kind}: {lines[0][:200]}); see the end of {log}"
