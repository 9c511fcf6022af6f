"""Whether real photos and real ImageNet weights are at hand (README, Tests)."""

import os
from pathlib import Path

import pytest

REAL = (
    "needs TFDS_DATA_DIR with tf_flowers and KERAS_HOME with MobileNetV2 0.35 weights "
    "(README, Tests)"
)


def has_real_data() -> bool:
    """Whether real photos and real ImageNet weights lie where the variables point."""
    photos = Path(os.environ.get("TFDS_DATA_DIR", "/nowhere")) / "tf_flowers"
    weights = Path(os.environ.get("KERAS_HOME", "/nowhere")) / "models"
    return photos.exists() and any(weights.glob("mobilenet_v2*0.35_224_no_top.h5"))


real_data = pytest.mark.skipif(not has_real_data(), reason=REAL)
