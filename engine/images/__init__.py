"""Images: decoding, augmentation, thumbnails, measures and drawing."""

from typing import Protocol

import numpy as np


class Images(Protocol):
    """What this package needs of a dataset (`engine.data.prepared.Dataset`).

    Attributes:
        contents: str array (n,), the SHA-256 of each image.
    """

    contents: np.ndarray

    def image_bytes(self, index: int) -> bytes:
        """The encoded image. Raises LostImageError if it can no longer be read."""
        ...
