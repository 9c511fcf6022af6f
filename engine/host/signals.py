"""How a run ends early at the user's request. Light."""


class Stopped(Exception):
    """The user asked to stop; the best model so far is kept."""


class Paused(Exception):
    """The run pauses; it can be resumed from its last checkpoint.

    Args:
        text: one sentence: why, and what to do before it is resumed; "" if a user asked for it.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.text = text
