"""From bytes to pixels, in one place.

Training, prediction, evaluation and previews all call `load`, so they see identical pixels: two
decoders disagree on orientation, 16-bit depth and resizing, and answers change with them.
"""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from engine.errors import ImageError

MAX_PIXELS = 64_000_000
"""Largest width x height that is decoded (a 64-megapixel photo takes 192 MB of memory)."""
MAX_BYTES = 200_000_000
"""Largest file that is opened."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF", "TIFF", "PPM", "ICO", "JPEG2000")
EXTENSIONS = (
    "jpg",
    "jpeg",
    "jfif",
    "png",
    "gif",
    "bmp",
    "webp",
    "avif",
    "tif",
    "tiff",
    "ppm",
    "pgm",
    "ico",
    "jp2",
)

# Pillow warns beyond 89 million pixels, and refuses beyond 179; our own bound is below both.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def read(source) -> Image.Image:
    """Reads one image, upright and in colour.

    EXIF orientation is applied, transparency is laid on white, 16-bit grey is scaled to 8 bits, and
    of an animation the first frame is taken.

    Args:
        source: bytes, a path, or a PIL image.

    Returns:
        A PIL image of mode RGB, fully decoded.

    Raises:
        ImageError: one sentence, if it is no image of a known format, is truncated, or is larger
            than `MAX_PIXELS`.
    """
    if isinstance(source, Image.Image):
        image = source
    else:
        image = _open(source)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"the image is {width} x {height} pixels; Graft reads up to {MAX_PIXELS // 10**6} "
            "million pixels, so make it smaller first"
        )
    try:
        image.load()
        return _upright_rgb(image)
    except ImageError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error …
        raise ImageError(f"the image is damaged or incomplete ({_short(error)})") from None


def info(image_bytes: bytes) -> tuple[int, int, str]:
    """Width and height as a viewer shows them (after orientation), and the format's name.

    Decodes the whole image, so that what passes here can be trained on. Raises ImageError.
    """
    format = _open(image_bytes).format
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


def load(source, size: int, resize: str = "antialias") -> np.ndarray:
    """`read` and `to_pixels`: uint8 array (size, size, 3)."""
    return to_pixels(read(source), size, resize)


def _open(source) -> Image.Image:
    """Opens and checks the header only."""
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
        return Image.open(data, formats=FORMATS)
    except Image.DecompressionBombError:
        raise ImageError(
            f"the image has far more pixels than the {MAX_PIXELS // 10**6} million Graft reads, so "
            "make it smaller first"
        ) from None
    except PermissionError:
        raise ImageError("the file may not be read (permission denied)") from None
    except Exception:  # UnidentifiedImageError, or a header that a plug-in chokes on
        raise ImageError(
            "it is not an image Graft can read (JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF and a few more)"
        ) from None


def _upright_rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB, the way a person sees it."""
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        # convert("RGB") would clip at 255 (facts, Images): 65535 / 257 = 255.
        if image.mode != "I" or values.max(initial=0) > 255:
            values = (np.clip(values, 0, 65535) + 128) // 257
        exif = image.getexif()
        image = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
        image.getexif().update(exif)
    elif image.mode == "F":
        raise ImageError("it holds floating-point values; save it as 8-bit or 16-bit PNG first")
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    return image if image.mode == "RGB" else image.convert("RGB")


def _short(error: Exception) -> str:
    """The reason in a few words, without object addresses."""
    text = str(error).strip().split("\n")[0] or type(error).__name__
    return text if len(text) <= 80 and " at 0x" not in text else type(error).__name__
