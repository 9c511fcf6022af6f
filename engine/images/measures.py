"""Measures of an image's pixels: brightness, contrast, sharpness, entropy, span.

The process that inspects a dataset computes them (`engine.inspection.worker`), and pages read the
results. One decode gives all of them and the thumbnail.
"""

import numpy as np
from PIL import Image

from engine.images import decode, thumbnails

SHARPNESS_SIDE = 256
"""Longest side, pixels, at which sharpness is measured: about the input size of backbones (224), so
that an image counts as blurred if training sees it blurred, whatever its own size."""
GREY_SIDE = 64
"""Side of the square grey image that copies are recognized by (`engine.data.copies`)."""

RECORD = np.dtype(
    [
        ("place", "u4"),
        ("brightness", "f4"),
        ("contrast", "f4"),
        ("sharpness", "f4"),
        ("entropy", "f4"),
        ("span", "f4"),
    ]
)
"""What an inspection keeps of each image. place: its row in the dataset + 1."""


def measure(data: bytes, row: int) -> tuple[np.ndarray, bytes]:
    """Decodes an image once and measures it.

    Args:
        data: the encoded image.
        row: its row in the dataset.

    Returns:
        (a record of `RECORD`, shape (); the encoded thumbnail). brightness: mean luma, 0 to 255;
        contrast: standard deviation of luma; entropy: of the luma histogram, 0 to 8 bits;
        sharpness: `sharpness`; span: `span`. Luma as in ITU-R BT.601 and Pillow's mode L.

    Raises:
        ImageError: if it cannot be decoded.
    """
    picture = decode.read(data)
    luma = picture.convert("L")
    record = np.zeros((), RECORD)
    brightness, contrast, entropy = tone(luma)
    record["place"] = row + 1
    record["brightness"], record["contrast"], record["entropy"] = brightness, contrast, entropy
    record["sharpness"] = sharpness(fitted(luma, SHARPNESS_SIDE))
    record["span"] = span(luma)
    return record, thumbnails.encode(picture)


def lost(row: int) -> np.ndarray:
    """The record of an image that can no longer be read: its measures are NaN."""
    record = np.zeros((), RECORD)
    record["place"] = row + 1
    for name in ("brightness", "contrast", "sharpness", "entropy", "span"):
        record[name] = np.nan
    return record


def tone(luma: Image.Image) -> tuple[float, float, float]:
    """Mean, standard deviation and entropy (bits, Shannon 1948) of an image of mode L.

    All three come exactly from its 256-bin histogram, without another copy of the pixels."""
    shares = np.asarray(luma.histogram(), np.float64)
    shares /= shares.sum()
    levels = np.arange(256)
    mean = float(shares @ levels)
    deviation = float(np.sqrt(shares @ (levels - mean) ** 2))
    present = shares[shares > 0]
    return mean, deviation, float(max(0.0, -(present * np.log2(present)).sum()))


def sharpness(small: Image.Image) -> float:
    """Variance of the Laplacian (4 neighbours) of an image of mode L: low if there are no edges.

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy: a comparative study", ICPR
    2000. Luma 0 to 255, longest side `SHARPNESS_SIDE`.
    """
    x = np.asarray(small, np.float32)
    if min(x.shape) < 3:  # a line has no inner pixels
        return 0.0
    inner = x[1:-1, 1:-1]
    laplacian = x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:] - 4 * inner
    return float(laplacian.var())


def span(luma: Image.Image) -> float:
    """The largest difference of luma, 0 to 255, between two of an image's 64 x 64 blocks.

    Averaging over blocks leaves little of noise, but keeps the lines of a drawing or of small print
    on an otherwise white page.
    """
    low, high = luma.resize((GREY_SIDE, GREY_SIDE), Image.Resampling.BILINEAR).getextrema()
    return float(high - low)  # type: ignore[operator]


def fitted(picture: Image.Image, side: int) -> Image.Image:
    """An image resized to a longest side of `side` pixels, with antialiasing when it shrinks."""
    scale = side / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    if (width, height) == picture.size:
        return picture
    return picture.resize((width, height), Image.Resampling.BILINEAR)
