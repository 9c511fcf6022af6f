"""The built-in backbone: a small convolutional network, about a quarter of a million parameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

WEIGHTS = Path(__file__).parent / "graft_small.weights.h5"
CHANNELS = (32, 48, 64, 64, 96, 96)
STRIDES = (2, 1, 2, 1, 2, 1)
TOP_CHANNELS = 256


def build(input_shape: tuple[int | None, int | None, int] = (96, 96, 3)) -> keras.Model:
    """The network with random weights.

    Plain 3x3 convolutions: at this size they train faster on a CPU than depthwise ones, and every
    runtime supports them. A block of stride 1 whose width does not change adds its input (He et al.
    2015, arXiv:1512.03385).

    Args:
        input_shape: (height, width, 3), at least 32 pixels; None for any height or width.

    Returns:
        A keras.Model named GraftSmall. Input: float32 (height, width, 3), -1 to 1. Output: the last
        feature map (height / 16, width / 16, 256), at least 0.
    """
    import keras
    from keras import layers

    def block(x, name, channels, size, stride):
        y = layers.Conv2D(channels, size, stride, "same", use_bias=False, name=f"{name}_conv")(x)
        # A low momentum, because fine-tuning on small data has few steps to adapt it.
        y = layers.BatchNormalization(momentum=0.95, name=f"{name}_bn")(y)
        y = layers.ReLU(name=f"{name}_relu")(y)
        return (
            layers.Add(name=f"{name}_add")([x, y]) if x.shape[-1] == channels and stride == 1 else y
        )

    inputs = layers.Input(input_shape, name="image")
    x = block(inputs, "stem", 16, 3, 2)
    for number, (channels, stride) in enumerate(zip(CHANNELS, STRIDES, strict=True), 1):
        x = block(x, f"block{number}", channels, 3, stride)
    return keras.Model(inputs, block(x, "top", TOP_CHANNELS, 1, 1), name="GraftSmall")


def load_weights(model: keras.Model) -> None:
    """Loads the pretrained weights into `build`'s model."""
    model.load_weights(WEIGHTS)
