"""What an export says about itself for programs: labels, preprocessing, and a script that uses it.

Light. The model card is for people (`engine.exports.card`).
"""

import inspect
import json
import shutil
from pathlib import Path

from engine.exports import formats
from engine.images import depth
from engine.predict import calibration
from engine.runs import files
from engine.runs.runs import Run

_SCALING = {
    "tf": "x / 127.5 - 1",
    "torch": "(x / 255 - mean) / standard deviation, with the values of ImageNet",
    "caffe": "channels reversed to blue, green, red, minus the means of ImageNet",
    "included": "none besides the network's own first layers",
}
_RESIZING = {
    "antialias": (
        "to the square, ignoring the aspect ratio, bilinear with antialiasing, rounded to whole "
        "numbers: Pillow's Image.resize((size, size), Image.Resampling.BILINEAR)"
    ),
    "plain": (
        "to the square, ignoring the aspect ratio, bilinear between the four nearest pixels at "
        "half-pixel centres, without antialiasing, truncated to whole numbers: Pillow's "
        "Image.transform with Transform.AFFINE"
    ),
}
_RESIZE_CODE = {
    "antialias": "image.resize(({size}, {size}), Image.Resampling.BILINEAR)",
    "plain": """image.transform(
        ({size}, {size}),
        Image.Transform.AFFINE,
        (image.width / {size}, 0, 0, 0, image.height / {size}, 0),
        Image.Resampling.BILINEAR,
    )""",
}
_SCRIPT = '''"""Classifies an image: python classify.py photo.jpg

Install what it needs: pip install {packages} numpy "pillow>=11"

It reads what Pillow reads. Save HEIC, and photos of more than 64 million pixels, as smaller JPEGs.
"""

{first}import sys
from pathlib import Path

{imports}
import numpy as np
from PIL import Image, ImageOps

here = Path(__file__).parent
sys.path.insert(0, str(here))
import depth  # noqa: E402

{load}


def read(path):
    """uint8 array ({size}, {size}, 3): upright, transparency on white, resized as in training."""
    image, _ = depth.load(Image.open(path), lambda: Image.open(path))
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    image = image.convert("RGB")
    return np.asarray({resize})


def probabilities(pixels):
    """uint8 array (n, {size}, {size}, 3) to float32 array (n, {classes})."""
{answer}


if __name__ == "__main__":
    labels = (here / "labels.txt").read_text(encoding="utf-8").splitlines()
    answer = probabilities(read(sys.argv[1])[None])[0]
    for i in answer.argsort()[::-1]:
        print(f"{{answer[i]:.4f}}  {{labels[i]}}")
'''
_RUNTIMES = {
    "keras": (
        "import keras",
        'model = keras.saving.load_model(here / "model.keras", compile=False)',
        '    return model.predict_on_batch(pixels.astype("float32"))',
    ),
    "saved_model": (
        "import tensorflow as tf",
        'model = tf.saved_model.load(str(here / "saved_model"))',
        '    answer = model.signatures["pixels"](tf.constant(pixels, tf.float32))\n'
        '    return answer["probabilities"].numpy()',
    ),
    "litert": (
        "from ai_edge_litert.interpreter import Interpreter",
        'model = Interpreter(str(here / "model.tflite"), num_threads=os.cpu_count())\n'
        "run = model.get_signature_runner()",
        '    rows = [run(pixels=x[None].astype("float32"))["probabilities"] for x in pixels]\n'
        "    return np.concatenate(rows)",
    ),
    "onnx": (
        "import onnxruntime",
        "model = onnxruntime.InferenceSession(\n"
        '    here / "model.onnx", providers=["CPUExecutionProvider"]\n'
        ")",
        '    return model.run(["probabilities"], {"pixels": pixels.astype("float32")})[0]',
    ),
}
"""How classify.py imports each format's runtime, loads the model and gets its answers."""


def write(run: Run, format: str, folder: Path) -> None:
    """Writes labels.txt, preprocessing.json, recipe.yaml, classify.py and depth.py."""
    labels = "".join(f"{' '.join(name.split())}\n" for name in run.classes)
    (folder / "labels.txt").write_text(labels, encoding="utf-8")
    stated = json.dumps(_preprocessing(run, format), indent=1, ensure_ascii=False)
    (folder / "preprocessing.json").write_text(stated + "\n", encoding="utf-8")
    shutil.copy(run.path / files.RECIPE, folder)
    (folder / "classify.py").write_text(_script(run, format), encoding="utf-8")
    (folder / "depth.py").write_text(_depth(), encoding="utf-8")


def _depth() -> str:
    """The text of depth.py: how Graft itself reads more than 8 bits, without the rest of Graft."""
    error = 'class ImageError(ValueError):\n    """An image that cannot be read."""\n'
    return inspect.getsource(depth).replace("from engine.errors import ImageError\n", error)


def _script(run, format) -> str:
    """The text of classify.py: `read(path)`, `probabilities(pixels)`, and code that uses both."""
    size = run.architecture["image_size"]
    imports, load, answer = _RUNTIMES[format]
    return _SCRIPT.format(
        packages=" ".join(formats.FORMATS[format].runtime),
        first="import os\n" * ("os." in load),
        imports=imports,
        load=load,
        size=size,
        classes=len(run.classes),
        resize=_RESIZE_CODE[run.recipe.resize].format(size=size),
        answer=answer,
    )


def _preprocessing(run, format) -> dict:
    """How to prepare an image for the model and what it answers, as plain data."""
    size, batch = run.architecture["image_size"], 1 if format == "litert" else "any"
    stated = {
        "input": {
            "name": "pixels",
            "dtype": "float32",
            "shape": [batch, size, size, 3],
            "values": "0 to 255, whole numbers, red-green-blue; do not scale them",
        },
        "steps": [
            "decode the image with 8 bits per channel, more than 8 as depth.py does; use the first "
            "frame of an animation; decode JPEG with the accurate integer transform, the default "
            "of libjpeg",
            "rotate it upright according to its EXIF orientation",
            "put transparent images on a white background",
            "convert to red-green-blue",
            f"resize to {size} x {size} pixels, {_RESIZING[run.recipe.resize]}",
        ],
        "resize": run.recipe.resize,
        "inside_the_model": _SCALING[run.architecture["preprocessing"]],
        "output": {
            "name": "probabilities",
            "dtype": "float32",
            "shape": [batch, len(run.classes)],
            "labels": "labels.txt, in this order",
        },
        "temperature": calibration.temperature_of(run),
        "temperature_note": "already part of the last layer: do not apply it again",
    }
    if format == "saved_model":
        stated["signatures"] = {
            "pixels": "takes the input above",
            "serving_default": "takes image_bytes, string (batch,): the bytes of JPEG, PNG, GIF, "
            "BMP or static WebP files of 8 bits; decodes and resizes them in the graph",
            "serving_default_limits": "TensorFlow's decoder ignores EXIF orientation, drops "
            "transparency instead of putting it on white, and cannot read AVIF, TIFF, animated "
            "WebP, ICO, PPM or JPEG 2000; decoded pixels differ from those above by up to about 1 "
            "level of 255",
        }
    return stated
