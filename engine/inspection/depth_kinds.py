"""The kind of finding about images of more than 8 bits (`engine.images.depth`)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from engine.host import words
from engine.inspection.kinds import Finding, Seen, Severity


def scaled(seen: Seen) -> Iterator[Finding]:
    """By which bits images were scaled; a warning if it differs, for it changes their brightness,
    and a serious one if it differs between classes: a classifier could then learn that instead."""
    bits = seen.dataset.bits
    used = np.unique(bits[bits > 0]).tolist()
    if not used or used == [16]:
        return
    where = np.flatnonzero(bits > 0)
    counts = [f"{n} bits ({int((bits == n).sum()):,})" for n in used]
    title = f"Images with more than 8 bits for each value, scaled by {words.listed(counts)}"
    severity: Severity = "low"
    advice = (
        "You need not do anything. A file of 16 bits may use fewer; its values are scaled from 0 "
        "to the largest one of the bits it uses, here and in every classifier."
    )
    if len(used) > 1:
        per_class = {
            name: np.unique(mine[mine > 0]).tolist()
            for label, name in enumerate(seen.dataset.classes)
            if (mine := bits[seen.dataset.labels == label]).any()
        }
        apart = len({tuple(found) for found in per_class.values()}) > 1
        severity = "high" if apart else "medium"
        advice = (
            "Equal values became different shades. Save all images as 8-bit PNG, scaled alike, or "
            "have the files declare their bits (MaxSampleValue of a TIFF, sBIT of a PNG)."
        )
        if apart:
            said = [f"{name} {', '.join(map(str, found))}" for name, found in per_class.items()]
            title = f"Classes whose images use different bits: {words.listed(said)}"
            advice = f"A classifier could tell the classes apart by this alone. {advice}"
    yield Finding("depth", title, severity, len(where), where, None, advice)


KINDS = {"depth": scaled}
