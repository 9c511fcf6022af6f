"""How numbers, names and lists of names are written for people. Light."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

LONGEST = 200
"""Characters of a name that are shown."""
LISTED = 5
"""Names of a list that are shown, unless there is more room."""


def percent(share: float | None, digits: int = 1) -> str:
    """A share from 0 to 1: "91.7%"; "–" for None.

    Args:
        share: 0 to 1.
        digits: after the decimal point.
    """
    return "–" if share is None else f"{share:.{digits}%}"


def plural(number: int, noun: str, many: str | None = None) -> str:
    """A count with its noun: "1 image", "3,670 images".

    Args:
        number: how many.
        noun: the singular.
        many: the plural, if it is not the singular with an s.
    """
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"


def duration(seconds: float | None) -> str:
    """Seconds: "0.4 s", "8 s", "2 min 05 s", "1 h 12 min"; "–" for None."""
    if seconds is None:
        return "–"
    seconds = max(0.0, seconds)
    if seconds < 1.95:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def memory(mib: float | None) -> str:
    """MiB: "812 MiB", "2.4 GiB"; "–" for None."""
    if mib is None:
        return "–"
    return f"{mib:.0f} MiB" if mib < 1000 else f"{mib / 1024:.1f} GiB"


def short(number: float) -> str:
    """A large number in short: "98 k", "2.4 M"."""
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number / 1e3:.0f} k"


def grouped(number: int) -> str:
    """A whole number with its thousands set apart: "3,670"."""
    return f"{number:,}"


def printable(name: str) -> str:
    """A name that is safe to print: characters that cannot be seen or that reverse the text, and
    bytes that are no UTF-8, become their numbers."""
    if name.isprintable():
        return name
    return "".join(c if _seen(c) else f"\\u{ord(c):04x}" for c in name)


def _seen(c: str) -> bool:
    """Whether a character may be printed: spaces of any width may, and the joiners that Persian
    words and some emoji need."""
    return c.isprintable() or c in "\u200c\u200d" or unicodedata.category(c) == "Zs"


def file_name(name: str) -> str:
    """A name as a part of a file's name: letters, digits, dashes and underscores; may be ""."""
    return re.sub(r"[^\w-]+", "-", name).strip("-_")[:60]


def shown(name: str) -> str:
    """`printable`, without the middle of a long name."""
    text = printable(name)
    return text if len(text) <= LONGEST else f"{text[:120]}…{text[-60:]}"


def same(name: str, known: Iterable[str]) -> str | None:
    """The known name that equals a name, also in another Unicode form ("é" as one character, or as
    "e" and an accent, as macOS writes it); None if there is none."""
    known = list(known)
    if name in known:
        return name
    form = unicodedata.normalize("NFC", name)
    return next((each for each in known if unicodedata.normalize("NFC", each) == form), None)


def listed(names: Sequence[str], most: int = LISTED, last: str = "and") -> str:
    """Names in a sentence: "rose", "rose and tulip", "dandelion, rose and 998 more".

    Args:
        names: any number of them; each is made safe by `shown`.
        most: names that are shown, at least 1.
        last: the word before the last one.
    """
    # "and 1 more" would take the room of the name itself.
    most = most if len(names) > most + 1 else len(names)
    parts = [shown(name) for name in names[:most]]
    if len(names) > most:
        last, parts = "and", [*parts, f"{len(names) - most:,} more"]
    return f" {last} ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
