"""Images with more than 8 bits for each value, to 8 bits.

A file of 16 bits often holds values of a sensor with fewer: 10, 12 or 14. Scaled from 16 bits,
12 bits would become 16 levels of 256, near black. All values of an image are scaled alike, from 0
to the largest value of its bits: those that the file declares, otherwise the fewest of `BITS` that
hold its own largest value.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from engine.errors import ImageError

BITS = range(8, 34, 2)
"""8, 10, 12 … 32: those of sensors and file formats, up to 16."""
VERSION = 2
"""Of the rule above, for what is kept of decoded images. Before, grey of 16 bits was always scaled
from 16."""
FORMATS = ("PNG", "TIFF", "PPM", "JPEG2000")
"""Formats whose images this rule may apply to."""
_SWAPPED = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}
"""Ends of Pillow's names for values of 16 bits, and of those that give their lower halves."""


def bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yields (first row, rows from there on) of about a million pixels each, to save memory: each
    operation on a whole large image needs as much memory as the image itself."""
    step = max(1, 2**20 // image.width)
    for top in range(0, image.height, step):
        yield top, image.crop((0, top, image.width, min(top + step, image.height)))


def load(
    image: Image.Image, again: Callable[[], ImageFile.ImageFile] | None = None
) -> tuple[Image.Image, int]:
    """Loads an image, with 8 bits for each value; all but those of mode F.

    Args:
        image: opened.
        again: opens its file once more; None for an image without a file. Without it, colour of 16
            bits always keeps the upper 8.

    Returns:
        (the image, the bits it was scaled by; 0 if it had 8 anyway).

    Raises:
        ImageError: for values below 0, whose black is not known.
    """
    raw = _raw_mode(image) if again else ""
    said = _declared(image) if _is_grey(image) or raw[-4:] in _SWAPPED else None
    image.load()
    if _is_grey(image):
        scaled, bits = _to_grey(image, said)
    elif again and raw[-4:] in _SWAPPED:
        scaled, bits = _to_colour(image, raw, said, again)
    else:
        return image, 0
    scaled.getexif().update(image.getexif())
    return scaled, bits


def _is_grey(image: Image.Image) -> bool:
    """Whether an image is grey of more than 8 bits."""
    return image.mode == "I" or image.mode.startswith("I;16")


def _raw_mode(image: Image.Image) -> str:
    """How the values of an opened image lie in its file, as Pillow names it; "" for others, and
    once it is loaded."""
    tiles = getattr(image, "tile", None)
    args = tiles[0][3] if tiles else ""
    found = args[0] if isinstance(args, tuple) and args else args
    return found if isinstance(found, str) else ""


def _declared(image: Image.Image) -> int | None:
    """The bits that the file of an opened image says its values have; None if it does not say.

    A file that says all its 16 or 32 bits says nothing: they are the place for the values.
    """
    if image.format == "PNG":
        return _png(image)
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        stored = max(tags.get(258, (1,)))  # BitsPerSample
        # SMaxSampleValue and MaxSampleValue
        largest = np.max([*_values(tags.get(341)), *_values(tags.get(281)), 0])
        if 255 <= largest < 2**stored - 1:
            return int(largest).bit_length()
        return stored if stored not in (8, 16, 32) else None
    # Where these formats declare fewer bits, Pillow has scaled the values to 16.
    if image.format == "JPEG2000":
        return None if _jpeg_2000(image) == 16 else 16
    tiles = getattr(image, "tile", None)
    return 16 if image.format == "PPM" and tiles and tiles[0][0] != "raw" else None


def _to_grey(image: Image.Image, said: int | None) -> tuple[Image.Image, int]:
    """Grey of more than 8 bits to mode L.

    Args:
        image: loaded, `_is_grey`.
        said: of `_declared`.

    Returns:
        (an image of mode L, the bits it was scaled by).
    """

    def values() -> Iterator[tuple[int, np.ndarray]]:
        return ((top, np.asarray(band).astype(np.int64)) for top, band in bands(image))

    ranges = [(int(band.min()), int(band.max())) for _, band in values()]
    if min(low for low, _ in ranges) < 0:
        raise ImageError("it holds values below 0; save it as 8-bit or 16-bit PNG first")
    largest = max(high for _, high in ranges)
    if image.format == "PNG" and said and all(_is_scaled(band, said) for _, band in values()):
        said = 16
    bits = _bits(largest, said)
    grey = np.empty((image.height, image.width), np.uint8)
    for top, band in values():
        grey[top : top + len(band)] = _scaled(band, bits)
    return Image.fromarray(grey), bits


def _to_colour(
    image: Image.Image, raw: str, said: int | None, opened: Callable[[], ImageFile.ImageFile]
) -> tuple[Image.Image, int]:
    """Colour of 16 bits, of which Pillow keeps the upper 8, to 8 bits.

    Args:
        image: loaded.
        raw: its `_raw_mode`, which ends in one of `_SWAPPED`.
        said: of `_declared`.
        opened: opens the file again, for its lower 8 bits; called only if the values may have fewer
            than 16 bits.

    Returns:
        (an image of the same mode, the bits it was scaled by); the alpha channel stays as it is.
    """
    if image.mode not in ("RGB", "RGBA") or raw.startswith("RGBa"):  # CMYK, premultiplied
        return image, 16
    if np.max(image.getextrema()[:3]) >= 2**14 // 256:
        return image, 16
    low = opened()
    low.tile = [tile._replace(args=_lower(tile.args)) for tile in low.tile]
    low.load()

    def values() -> Iterator[tuple[int, np.ndarray]]:
        for (top, upper), (_, lower) in zip(bands(image), bands(low), strict=True):
            below = np.asarray(lower)[..., :3].astype(np.int64)
            # Read as 8-bit RGBA, grey with alpha of 16 bits has its lower half in green.
            below = below[..., [1, 1, 1]] if raw == "LA;16B" else below
            yield top, np.asarray(upper)[..., :3].astype(np.int64) * 256 + below

    if image.format == "PNG" and said and all(_is_scaled(band, said) for _, band in values()):
        said = 16
    bits = _bits(max(int(band.max()) for _, band in values()), said)
    scaled = np.array(image)
    for top, band in values():
        scaled[top : top + len(band), :, :3] = _scaled(band, bits)
    return Image.fromarray(scaled), bits


def _lower(args: Any) -> Any:
    """What has Pillow read the lower instead of the upper halves of a tile's values."""
    if isinstance(args, tuple):
        return (_lower(args[0]), *args[1:])
    return "RGBA" if args == "LA;16B" else args[:-4] + _SWAPPED[args[-4:]]


def _bits(largest: int, said: int | None) -> int:
    """The bits to scale by. If a file declares too few for its largest value, they do not count."""
    if said and largest < 2**said:
        return said
    return next(bits for bits in BITS if largest < 2**bits)


def _scaled(values: np.ndarray, bits: int) -> np.ndarray:
    """int64 array of values from 0 to 2**bits - 1, to 0 to 255."""
    most = 2**bits - 1
    return (values * 255 + most // 2) // most


def _is_scaled(values: np.ndarray, said: int) -> bool:
    """Whether values of 16 bits can come from `said` bits, scaled as the PNG specification asks:
    shifted up, the lower bits zeros or copies of the upper ones. Others wrote them as they were."""
    below = values & (2 ** (16 - said) - 1)
    return bool(np.all((below == 0) | (below == values >> said)))


def _png(image: Image.Image) -> int | None:
    """The largest number in the sBIT chunk, which comes before the pixels; Pillow skips it."""
    file = getattr(image, "fp", None)
    if file is None:  # loaded before
        return None
    place = file.tell()
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            length = int.from_bytes(head[:4], "big")
            if head[4:] == b"sBIT":
                found = max(file.read(min(length, 3)), default=0)
                return found if 8 <= found < 16 else None
            file.seek(length + 4, 1)
        return None
    finally:
        file.seek(place)


def _jpeg_2000(image: Image.Image) -> int:
    """The bits of the first component, of the SIZ marker (ITU-T T.800, A.5.1)."""
    file = getattr(image, "fp", None)
    if file is None:  # loaded before
        return 16
    place = file.tell()
    file.seek(0)
    head = file.read(2**16)
    file.seek(place)
    return head[head.index(b"\xff\x4f\xff\x51") + 42] % 128 + 1


def _values(tag: object) -> tuple[int, ...]:
    """The values of a TIFF tag, of one or several numbers; none if it is missing."""
    return tuple(tag) if isinstance(tag, tuple) else () if tag is None else (tag,)  # type: ignore
