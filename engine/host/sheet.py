"""CSV files (RFC 4180) that a spreadsheet can open safely. Light."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any


def to_csv(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as the text of a CSV file, to be written as UTF-8.

    A spreadsheet would run a cell that starts like a formula, and names of files and classes come
    from strangers: such cells get a leading apostrophe (OWASP, CSV Injection). Names may have bytes
    that are not UTF-8, as Linux allows any: these are written as numbers.

    Args:
        rows: the first one is usually the names of the columns; None becomes an empty cell.
    """
    file = io.StringIO()
    csv.writer(file).writerows(map(_cell, row) for row in rows)
    return file.getvalue().encode("utf-8", "backslashreplace").decode()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
