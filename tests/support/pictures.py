"""Small pictures made for a test."""

import io

import numpy as np
from PIL import Image


def picture(width=64, height=48, seed=0, mode="RGB") -> Image.Image:
    """A smooth random picture: compresses like a photo, and no two seeds are alike."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 255, (6, 8, 3), np.uint8).astype(np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encode(image, format="PNG", **options) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()
