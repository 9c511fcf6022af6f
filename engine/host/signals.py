"""What a run is asked to do while it works, and how it leaves its work: light, no TensorFlow."""


class Stopped(Exception):
    """The user asked to stop; what is best so far is kept."""


class Paused(Exception):
    """The run leaves its work to be taken up later from its last checkpoint.

    Args:
        text: one sentence: why, and what to do before it goes on; "" if a user asked for it.
    """

    def __init__(self, text: str = ""):
        super().__init__(text)
        self.text = text
