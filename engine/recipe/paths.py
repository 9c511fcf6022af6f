"""Paths as people paste them."""

import os
from urllib.parse import unquote

from engine import roots


def given(text: str) -> str:
    """The path that a text means: without quotes, `file://` and spaces around it, which file
    managers add. A text that is the name of an existing file stays as it is.

    Args:
        text: for example "'/a/b c'", '"C:\\photos"', "file:///a/b%20c" or "/a/b ".
    """
    plain = text.strip()
    if not plain or plain == text and plain[0] not in "'\"fF" or _exists(text):
        return text
    if plain[0] in "'\"" and plain.find(plain[0], 1) == len(plain) - 1 > 0:
        plain = plain[1:-1].strip()
    if plain.lower().startswith("file://") and not _exists(plain):
        rest = plain[len("file://") :].removeprefix("localhost")
        plain = unquote(rest, errors="surrogateescape")
        if plain[2:3] == ":":  # file:///C:/photos
            plain = plain.removeprefix("/")
    return plain


def _exists(text: str) -> bool:
    try:
        return roots.allows(text) and os.path.lexists(os.path.expanduser(text))
    except ValueError:  # a null byte
        return False
