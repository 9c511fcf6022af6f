"""From bytes to pixels, in one place.

Training, prediction, evaluation and previews all call `load`, so they see identical pixels. Two
decoders would differ in orientation, 16-bit depth and resizing, and so would their predictions.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pillow_heif

# Pillow loads all of its forty formats when it meets one that is not loaded yet. With those of
# `FORMATS` imported, it does not have to.
from PIL import (
    AvifImagePlugin,  # noqa: F401
    ExifTags,
    IcoImagePlugin,  # noqa: F401
    Image,
    ImageFile,
    ImageOps,
    Jpeg2KImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from engine.errors import ImageError
from engine.images import depth, limits
from engine.images.limits import MAX_BYTES, MAX_PIXELS

Source: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike | Image.Image
"""An image: its encoded bytes, a path, or a PIL image."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF", "HEIF", "TIFF", "PPM", "ICO", "JPEG2000")
EXTENSIONS = tuple(
    "jpg jpeg png webp heic gif bmp tif tiff avif heif hif jpe jfif ppm pgm pbm pnm ico jp2".split()
)
"""Of file names, in lower case and without the dot. `kind_of` recognises files without them."""

_STARTS = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}",
    "WEBP": rb"RIFF.{4}WEBP",
    "AVIF": rb".{4}ftyp(avi[fs]|(mif1|msf1).{4}(.{4})*?avi[fs])",
    "HEIF": rb".{4}ftyp(hei[cxms]|hev[cxms]|mif1|msf1)",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "PPM": rb"P[1-6]\s(\s*\d+\s+\d+\s|\s*#)",
    "ICO": rb"\0\0\x01\0[^\0]\0",
    "JPEG2000": rb"\xff\x4f\xff\x51|\0{3}\x0cjP  \r\n\x87\n",
}
"""How files of each format begin, as their specifications say; stricter than Pillow's own tests,
for which a text that begins with "BM" or "P2" is an image."""

EMPTY = "the file is empty; get it again or leave it out"
TOO_LARGE = f"the file is larger than {MAX_BYTES // 10**6} MB; save it smaller first"

# `engine.images.limits` is stricter.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
# Of the images in a HEIC file only the main one is used.
pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)


def kind_of(head: bytes) -> str | None:
    """The format that a file's content declares, whatever its name; it is not decoded.

    Args:
        head: the first bytes of the file; 64 are enough.

    Returns:
        One of `FORMATS`, or None if it is not an image that Graft reads.
    """
    for format, start in _STARTS.items():
        if re.match(start, head[:64], re.DOTALL):
            return format
    return None


class Facts(NamedTuple):
    """What a file says of its image.

    Attributes:
        width, height: as a viewer shows it (after orientation), also of one that is read reduced.
        format: Pillow's name.
        bits: those that an image of more than 8 bits was scaled by (`engine.images.depth`); 0 for
            all others.
    """

    width: int
    height: int
    format: str
    bits: int


def read(source: Source) -> Image.Image:
    """Reads one image, upright and in colour.

    EXIF orientation is applied, transparency is put on white, more than 8 bits are scaled to 8
    (`engine.images.depth`), and of an animation or a series the first or main image is used. A JPEG
    with more than `MAX_PIXELS` is reduced to a half or a quarter while it is decoded.

    Returns:
        A PIL image of mode RGB, fully decoded, without the file's other data: with a comment of
        several megabytes, no JPEG could be written from it.

    Raises:
        ImageError: one sentence, if it is not an image of a known format, is truncated, or is
            too large (`engine.images.limits`).
    """
    return read_with_facts(source)[0]


def info(image_bytes: bytes) -> Facts:
    """The facts of an encoded image.

    Decodes the whole image: one that passes here can be trained on. Raises ImageError.
    """
    return read_with_facts(image_bytes)[1]


def read_with_facts(source: Source) -> tuple[Image.Image, Facts]:
    """What `read` and `info` give, from one decoding; raises as they do."""
    image = source if isinstance(source, Image.Image) else _open(source)
    format, size = image.format or "", image.size
    limits.check_size(*size, format)
    try:
        if format in ("JPEG", "MPO"):
            _reduce(image)
        again = None if isinstance(source, Image.Image) else lambda: _open(source)
        image, bits = depth.load(image, again)
        limits.check_size(*image.size, format)  # HEIC says its true size only now
        if image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8):
            size = size[::-1]
        image = _upright_rgb(image)
        image.info = {}
    except ImageError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error …
        raise ImageError(
            f"the image is damaged or incomplete{_reason(error)}; get the file again or leave it "
            "out"
        ) from None
    return image, Facts(*size, "JPEG" if format == "MPO" else format, bits)


def to_pixels(image: Image.Image, size: int, resize: str = "antialias") -> np.ndarray:
    """Resizes to a square.

    Args:
        image: mode RGB.
        size: side in pixels.
        resize: "antialias", bilinear with a support that grows when shrinking, as Pillow and
            `tf.image.resize(antialias=True)` do (equal to within 1 level of 255); or "plain",
            bilinear between the four nearest pixels at half-pixel centres, as `tf.image.resize`
            does by default.

    Returns:
        uint8 array (size, size, 3).
    """
    if image.size == (size, size):
        return np.asarray(image)
    if resize == "plain":
        width, height = image.size
        affine = (width / size, 0, 0, 0, height / size, 0)
        resized = image.transform(
            (size, size), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
        )
    else:
        resized = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def load(source: Source, size: int, resize: str = "antialias") -> np.ndarray:
    """`read` and `to_pixels`: uint8 array (size, size, 3)."""
    return to_pixels(read(source), size, resize)


def _open(source: bytes | bytearray | memoryview | str | os.PathLike) -> ImageFile.ImageFile:
    """Opens an image and checks its header only."""
    data: io.BytesIO | Path
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = io.BytesIO(source)
        if not len(source):
            raise ImageError(EMPTY)
    else:
        data = Path(source)
        if not data.exists():
            raise ImageError("there is no such file; check its path")
        if not data.is_file():
            raise ImageError("it is not a file; give the path of an image")
        if data.stat().st_size == 0:
            raise ImageError(EMPTY)
        if data.stat().st_size > MAX_BYTES:
            raise ImageError(TOO_LARGE)
    try:
        limits.check_build(data)
        return Image.open(data, formats=FORMATS)
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"the image is far too large; {limits.too_many_pixels()}") from None
    except PermissionError:
        raise ImageError("the file cannot be read; give Graft permission to read it") from None
    except Exception:  # UnidentifiedImageError, or a header that breaks one of Pillow's plug-ins
        if kind := kind_of(_head(data)):
            raise ImageError(
                f"it is not an image Graft can read: it begins like {kind}, but is damaged or "
                "incomplete; get the file again or leave it out"
            ) from None
        raise ImageError(
            "it is not an image Graft can read (JPEG, PNG, HEIC, WebP, AVIF, GIF, BMP, TIFF and a "
            "few more); save it as JPEG or PNG first"
        ) from None


def _head(data: io.BytesIO | Path) -> bytes:
    if isinstance(data, io.BytesIO):
        return data.getvalue()[:64]
    with open(data, "rb") as file:
        return file.read(64)


def _reduce(image: Image.Image) -> None:
    """Has a JPEG that is larger than `MAX_PIXELS` decoded at a half, a quarter or an eighth: the
    whole of it is never in memory, except its coefficients (`limits.MAX_COEFFICIENTS`)."""
    times = 1
    while -(-image.width // times) * -(-image.height // times) > MAX_PIXELS:
        times *= 2
    if times > 1:
        image.draft(None, (image.width // times, image.height // times))


def _upright_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB, as a person sees it."""
    if image.mode == "F":
        raise ImageError("it holds floating-point values; save it as 8-bit or 16-bit PNG first")
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        flat = Image.new("RGB", image.size)
        for top, band in depth.bands(image):
            white = Image.new("RGBA", band.size, "white")
            flat.paste(Image.alpha_composite(white, band.convert("RGBA")).convert("RGB"), (0, top))
        return flat
    return image if image.mode == "RGB" else image.convert("RGB")


def _reason(error: Exception) -> str:
    """The decoder's reason in parentheses; "" if it is long, or no words for people."""
    text = str(error).strip().split("\n")[0]
    return f" ({text})" if 0 < len(text) <= 80 and " at 0x" not in text else ""
