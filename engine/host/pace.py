"""The time left of counted work, from its own pace. Light."""

from __future__ import annotations


class Pace:
    """How long the rest of some items takes, by the pace since the first of them.

    The first items do not count: they wait for what is set up once, and may have been done before.
    """

    def __init__(self) -> None:
        self._text, self._since = "", (0.0, 0)

    def left(self, text: str, done: int, total: int | None, now: float) -> float | None:
        """Seconds until all are done; None while that is not known.

        Args:
            text: what is done; another text starts again.
            done, total: items; None if their number is unknown.
            now: in seconds, of any clock.
        """
        if text != self._text or not self._since[1]:
            self._text, self._since = text, (now, done)
        since, before = self._since
        if not total or done <= before:
            return None
        return (now - since) / (done - before) * (total - done)
