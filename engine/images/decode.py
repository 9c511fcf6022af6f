"""From bytes to pixels, in one place.

Training, prediction, evaluation and previews all call `load`, so they see identical pixels. Two
decoders would differ in orientation, 16-bit depth and resizing, and so would their predictions.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import pillow_heif

# Pillow loads all of its forty formats when it meets one that is not loaded yet. With those of
# `FORMATS` imported, it does not have to.
from PIL import (
    AvifImagePlugin,  # noqa: F401
    IcoImagePlugin,
    Image,
    ImageOps,
    Jpeg2KImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from engine.errors import ImageError

Source: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike | Image.Image
"""An image: its encoded bytes, a path, or a PIL image."""

MAX_PIXELS = 64_000_000
"""Largest width x height that is decoded (a 64-megapixel photo takes 192 MB of memory)."""
MAX_BYTES = 200_000_000
"""Largest file that is opened."""
MAX_SIDE = 65_535
"""Longest side, in pixels; also JPEG's own limit. Resizing keeps 16 bytes for each pixel of a side:
1.7 GB for a single column of 60 million."""
MAX_SCANS = 100
"""Scans of a JPEG; libtiff has the same limit, and photos from cameras have about ten. A file of
300 kB can hold 200 scans of 8,000 x 8,000 pixels, which took 9 s; one of 200 MB takes hours
(libjpeg-turbo, LJT-01-004)."""
MAX_SEGMENTS = 500
"""Blocks of at most 64 kB before a JPEG's pixels: EXIF, colour profile, XMP. Pillow's time grows
with the square of their number: 300 took 1.2 s, 1,500 took 41 s."""

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

# Pillow warns above 89 million pixels and refuses above 179 million; MAX_PIXELS is below both.
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


def read(source: Source) -> Image.Image:
    """Reads one image, upright and in colour.

    EXIF orientation is applied, transparency is put on white, 16-bit grey is scaled to 8 bits, and
    of an animation the first frame is used.

    Returns:
        A PIL image of mode RGB, fully decoded, without the file's other data: with a comment of
        several megabytes, no JPEG could be written from it.

    Raises:
        ImageError: one sentence, if it is not an image of a known format, is truncated, or is
            larger than `MAX_PIXELS`.
    """
    image = source if isinstance(source, Image.Image) else _open(source)
    _check_size(*image.size)
    try:
        image.load()
        image = _upright_rgb(image)
        image.info = {}
        return image
    except ImageError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error …
        raise ImageError(f"the image is damaged or incomplete ({_short(error)})") from None


def info(image_bytes: bytes) -> tuple[int, int, str]:
    """Width and height as a viewer shows them (after orientation), and the format's name.

    Decodes the whole image: one that passes here can be trained on. Raises ImageError.
    """
    format = _open(image_bytes).format or ""
    width, height = read(image_bytes).size
    return width, height, "JPEG" if format == "MPO" else format


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


def _open(source: bytes | bytearray | memoryview | str | os.PathLike) -> Image.Image:
    """Opens an image and checks its header only."""
    data: io.BytesIO | Path
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = io.BytesIO(source)
        if not len(source):
            raise ImageError("the file is empty")
    else:
        data = Path(source)
        if not data.exists():
            raise ImageError("there is no such file")
        if not data.is_file():
            raise ImageError("it is not a file; give the path of an image")
        if data.stat().st_size == 0:
            raise ImageError("the file is empty")
        if data.stat().st_size > MAX_BYTES:
            raise ImageError(f"the file is larger than {MAX_BYTES // 10**6} MB")
    try:
        _check_build(data)
        return Image.open(data, formats=FORMATS)
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(
            f"the image has far more pixels than the {MAX_PIXELS // 10**6} million Graft reads, so "
            "make it smaller first"
        ) from None
    except PermissionError:
        raise ImageError("the file cannot be read (permission denied)") from None
    except Exception:  # UnidentifiedImageError, or a header that breaks one of Pillow's plug-ins
        raise ImageError(
            "it is not an image Graft can read (JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF and a few "
            "more)"
        ) from None


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"the image is {width} x {height} pixels; Graft reads up to {MAX_PIXELS // 10**6} "
            "million pixels, so make it smaller first"
        )
    if max(width, height) > MAX_SIDE:
        raise ImageError(
            f"the image is {width} x {height} pixels; Graft reads up to {MAX_SIDE:,} per side, so "
            "cut it into parts first"
        )


_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_BARE = {0x01, 0xC8, 0xD8, 0xD9, *range(0xF0, 0xFE)}
"""Markers without a length (ITU-T T.81, table B.1), or that Pillow reads as such."""


def _check_jpeg(data: bytes) -> None:
    """Raises ImageError for a JPEG made to keep the decoder busy (`MAX_SCANS`, `MAX_SEGMENTS`)."""
    at, segments, scans = 2, 0, 0
    while found := _MARKER.search(data, at):
        at, marker = found.end(), data[found.end() - 1]
        if marker == 0xD9 and scans:  # the end; a video or another image may follow
            return
        segments += not scans
        scans += marker == 0xDA
        if segments > MAX_SEGMENTS or scans > MAX_SCANS:
            raise ImageError(
                "the JPEG has far more parts than a photo; open it in an image editor and save it "
                "again"
            )
        if scans == 1 and data.count(b"\xff\xda", at) < MAX_SCANS:
            return
        if marker not in _BARE:
            at += int.from_bytes(data[at : at + 2], "big")


def _check_build(data: io.BytesIO | Path) -> None:
    """Raises ImageError for a file that would keep Pillow busy for long when it is opened."""
    file: BinaryIO
    with open(data, "rb") if isinstance(data, Path) else contextlib.nullcontext(data) as file:
        begin = file.read(4)
        file.seek(0)
        if begin.startswith(b"\xff\xd8\xff"):
            _check_jpeg(file.read())
        elif begin == b"\0\0\1\0":
            _check_icon(file)
        file.seek(0)


def _check_icon(file: BinaryIO) -> None:
    """Raises ImageError for an icon with too many or too large images.

    Its header declares at most 256 x 256 pixels, but the image inside, which is decoded on opening,
    may have any size. Real icons hold a dozen images, and up to 65,535 are possible.
    """
    if struct.unpack("<H", file.read(6)[4:])[0] > 256:
        raise ImageError("the icon holds more than 256 images; save one of them as PNG")
    file.seek(0)
    file.seek(IcoImagePlugin.IcoFile(file).entry[0].offset)
    head = file.read(24)
    if head.startswith(b"\x89PNG"):
        width, height = struct.unpack(">II", head[16:24])
    elif head[0] == 12:  # the oldest bitmap header; a mask follows the image
        width, height = struct.unpack("<HH", head[4:8])
    else:
        width, height = struct.unpack("<ii", head[4:12])
    _check_size(abs(width), abs(height))


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yields (first row, rows from there on) of about a million pixels each, to save memory: each
    operation on a whole large image needs as much memory as the image itself."""
    step = max(1, 2**20 // image.width)
    for top in range(0, image.height, step):
        yield top, image.crop((0, top, image.width, min(top + step, image.height)))


def _to_8_bits(image: Image.Image) -> Image.Image:
    """16-bit grey, or mode I, to mode L."""
    grey = np.empty((image.height, image.width), np.uint8)
    # convert("RGB") would clip at 255; 65535 / 257 = 255.
    deep = image.mode != "I" or int(np.max(image.getextrema())) > 255
    for top, band in _bands(image):
        values = np.asarray(band).astype(np.int64)
        if deep:
            values = (np.clip(values, 0, 65535) + 128) // 257
        grey[top : top + band.height] = np.clip(values, 0, 255)
    return Image.fromarray(grey)


def _upright_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB, as a person sees it."""
    if image.mode.startswith("I;16") or image.mode == "I":
        exif = image.getexif()
        image = _to_8_bits(image)
        image.getexif().update(exif)
    elif image.mode == "F":
        raise ImageError("it holds floating-point values; save it as 8-bit or 16-bit PNG first")
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        flat = Image.new("RGB", image.size)
        for top, band in _bands(image):
            white = Image.new("RGBA", band.size, "white")
            flat.paste(Image.alpha_composite(white, band.convert("RGBA")).convert("RGB"), (0, top))
        return flat
    return image if image.mode == "RGB" else image.convert("RGB")


def _short(error: Exception) -> str:
    """The reason in a few words, without object addresses."""
    text = str(error).strip().split("\n")[0] or type(error).__name__
    return text if len(text) <= 80 and " at 0x" not in text else type(error).__name__
