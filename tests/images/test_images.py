"""One path from bytes to pixels: every format, every mode, and refusals in a sentence."""

import io

import numpy as np
import pytest
from PIL import Image

from engine.errors import ImageError
from engine.images import augment, decode
from engine.recipe import AugmentationSpec
from tests.support.pictures import encode, picture


@pytest.mark.parametrize(
    ("format", "mode"),
    [("JPEG", "RGB"), ("HEIF", "RGB"), ("HEIF", "L"), ("HEIF", "RGBA"),
     ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "P"), ("PNG", "L"),
     ("WEBP", "RGB"), ("AVIF", "RGB"), ("GIF", "P"), ("BMP", "RGB"), ("TIFF", "RGB"),
     ("PPM", "RGB"), ("JPEG2000", "RGB")],
)  # fmt: skip
def test_formats_and_modes_are_read_as_seen(format, mode):
    original = picture(mode=mode)
    pixels = np.asarray(decode.read(encode(original, format)), int)
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels - np.asarray(original.convert("RGB"), int)).mean() < 12


def test_content_says_which_format_a_file_has():
    """Also for files without an ending; a text or a film that begins alike is no image."""
    for format in decode.FORMATS:
        assert decode.kind_of(encode(picture(), format)[:64]) == format
    for no_image in (
        b"", b"BMW is a carmaker from Munich", b"P2 notes of the meeting", b"<svg/>", bytes(64),
        b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", b"RIFF\0\0\0\0WAVE", b"II, 3 of 4",
    ):  # fmt: skip
        assert decode.kind_of(no_image) is None
    mixed = b"\0\0\0\x1cftypmif1\0\0\0\0mif1%bmiaf"
    assert decode.kind_of(mixed % b"heic") == "HEIF"
    assert decode.kind_of(mixed % b"avif") == "AVIF"


def test_exif_orientation_is_applied():
    original = picture(64, 48)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    read = decode.read(encode(original, "PNG", exif=exif))
    assert read.size == (48, 64)
    assert np.array_equal(
        np.asarray(read), np.asarray(original.transpose(Image.Transpose.ROTATE_270))
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_heic_photo_is_turned_once(orientation):
    """Phones write the orientation twice: as EXIF, and for the decoder."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    original = picture(64, 48)
    heic = encode(original, "HEIF", exif=exif.tobytes(), quality=95)
    turned, expected = decode.read(heic), decode.read(encode(original, "PNG", exif=exif))
    assert turned.size == expected.size == decode.info(heic)[:2]
    assert np.abs(np.asarray(turned, int) - np.asarray(expected, int)).mean() < 6


def test_a_series_of_heic_photos_shows_its_main_one():
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "lime", "blue")]
    data = encode(frames[0], "HEIF", save_all=True, append_images=frames[1:], primary_index=1)
    assert decode.read(data).getpixel((9, 9))[1] > 240


def test_transparency_is_laid_on_white():
    layer = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert np.asarray(decode.read(encode(layer))).min() == 255
    palette = Image.new("P", (8, 8), 0)
    assert np.asarray(decode.read(encode(palette, "PNG", transparency=0))).min() == 255


def test_sixteen_bit_grey_keeps_its_shades():
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    read = np.asarray(decode.read(encode(Image.fromarray(ramp))))[..., 0]
    assert np.abs(read.astype(float) - ramp / 257).max() <= 0.51


def test_an_animation_shows_its_first_frame():
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    for format in ("GIF", "WEBP"):
        data = encode(frames[0], format, save_all=True, append_images=frames[1:])
        assert np.asarray(decode.read(data))[16, 16, 0] > 240


def test_refusals_are_one_sentence(tmp_path):
    good = encode(picture(200, 200), "JPEG")
    heic = b"\0\0\0\x18ftypheic" + bytes(200)
    huge = encode(Image.new("1", (9000, 9000)))
    floats = encode(Image.new("F", (8, 8)), "TIFF")
    (tmp_path / "folder.jpg").mkdir()
    for source, words in [
        (b"", "empty"), (b"hello", "not an image"), (b"<svg/>", "not an image"),
        (good[: len(good) // 2], "damaged"), (huge, "9000 x 9000"), (floats, "floating-point"),
        (heic, "begins like HEIF, but"), (tmp_path / "none.jpg", "no such file"),
        (tmp_path / "folder.jpg", "not a file"),
    ]:  # fmt: skip
        with pytest.raises(ImageError) as caught:
            decode.read(source)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_bomb_is_refused_by_its_header():
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    with pytest.raises(ImageError, match="million"):
        decode.read(bomb.getvalue())


def test_resizing_agrees_with_tensorflow_to_a_level():
    import tensorflow as tf

    original = picture(320, 240, seed=3)
    for resize, antialias in (("antialias", True), ("plain", False)):
        theirs = tf.image.resize(np.asarray(original), (96, 96), antialias=antialias).numpy()
        ours = decode.to_pixels(original, 96, resize).astype(float)
        assert np.abs(ours - theirs).max() <= 1.01


def test_training_and_preview_augment_alike():
    import tensorflow as tf

    from engine.train import input_pipeline

    spec = AugmentationSpec(flip="both", rotation=30, zoom=0.2, translation=0.1, contrast=0.3,
                            brightness=0.1)  # fmt: skip
    drawn = augment.draw(spec, 6, seed=5)
    pixels = np.stack([np.asarray(picture(64, 64, seed=i)) for i in range(6)])
    theirs = input_pipeline._augment(
        tf.constant(pixels, tf.float32), tf.constant(drawn), 64
    ).numpy()
    ours = np.stack([augment.apply(p, d) for p, d in zip(pixels, drawn, strict=True)])
    # At the border of a moved image one blends with grey and the other cuts.
    assert np.mean(np.abs(ours - theirs) > 2) < 0.04
    unmoved = augment.draw(AugmentationSpec(), 1, seed=5)[0]
    assert np.array_equal(augment.apply(pixels[0], unmoved), pixels[0])


def test_a_flip_is_exact_and_half_of_all():
    drawn = augment.draw(AugmentationSpec(flip="horizontal"), 400, seed=1)
    flipped = drawn[:, 0] < 0
    assert 140 < flipped.sum() < 260
    pixels = np.asarray(picture(64, 64))
    assert np.array_equal(augment.apply(pixels, drawn[flipped][0]), pixels[:, ::-1])


@pytest.mark.parametrize("buffer", [0, 10, 1000])
def test_an_epoch_visits_every_image_once_in_a_repeatable_order(buffer):
    order = augment.epoch_order(100, buffer, [1, 2, 3])
    assert sorted(order) == list(range(100))
    assert np.array_equal(order, augment.epoch_order(100, buffer, [1, 2, 3]))
    assert not np.array_equal(order, augment.epoch_order(100, buffer, [1, 2, 4]))
    if buffer == 10:
        # A window of ten cannot bring an image forward by more than nine places.
        assert all(image - place < 10 for place, image in enumerate(order))
