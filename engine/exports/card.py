"""The papers of an export: labels, preprocessing, a script that uses it, and the model card.

The card follows "Model Cards for Model Reporting" (Mitchell et al. 2019, FAT*): what it was made from, how
well it does and with what uncertainty, what it is not for. What Graft does not know, it says.
"""

import json
import shutil

from engine import home as homes
from engine.data import datasets
from engine.errors import DatasetError
from engine.exports import formats
from engine.predict import calibration
from engine.predict.evaluation import wilson_interval

_SCALING = {
    "tf": "x / 127.5 - 1",
    "torch": "(x / 255 - mean) / deviation, with ImageNet's means and deviations",
    "caffe": "channels reversed to blue, green, red, minus ImageNet's means",
    "included": "none beside the network's own first layers",
}
_RESIZING = {
    "antialias": "to the square, not keeping the aspect ratio, bilinear with antialiasing: Pillow's "
    "Image.resize((size, size), Image.Resampling.BILINEAR), rounded to whole numbers",
    "plain": "to the square, not keeping the aspect ratio, bilinear between the four nearest pixels at "
    "half-pixel centres without antialiasing: Pillow's Image.transform with Transform.AFFINE, cut off "
    "to whole numbers",
}
_RESIZE_LINE = {
    "antialias": "image.resize(({size}, {size}), Image.Resampling.BILINEAR)",
    "plain": "image.transform(\n"
    "        ({size}, {size}),\n"
    "        Image.Transform.AFFINE,\n"
    "        (image.width / {size}, 0, 0, 0, image.height / {size}, 0),\n"
    "        Image.Resampling.BILINEAR,\n"
    "    )",
}
_SCRIPT = '''"""Classifies an image: python classify.py photo.jpg

Needs nothing but: pip install {packages} numpy "pillow>=11"
"""

{first}import sys
from pathlib import Path

{imports}
import numpy as np
from PIL import Image, ImageOps

here = Path(__file__).parent
{load}


def read(path):
    """uint8 array ({size}, {size}, 3): upright, transparency on white, resized as in training."""
    image = Image.open(path)
    if image.mode == "I" or image.mode.startswith("I;16"):  # 16-bit grey, which convert would cut off
        grey, exif = np.asarray(image).astype(np.int64), image.getexif()
        if image.mode != "I" or grey.max() > 255:
            grey = (np.clip(grey, 0, 65535) + 128) // 257
        image = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
        image.getexif().update(exif)
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
# How classify.py imports the runtime, loads the model and asks it.
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
        'model = onnxruntime.InferenceSession(here / "model.onnx", providers=["CPUExecutionProvider"])',
        '    return model.run(["probabilities"], {"pixels": pixels.astype("float32")})[0]',
    ),
}


def write_papers(run, format: str, folder) -> None:
    """Writes labels.txt, preprocessing.json, recipe.yaml and classify.py into a folder."""
    labels = "".join(f"{' '.join(name.split())}\n" for name in run.classes)
    (folder / "labels.txt").write_text(labels, encoding="utf-8")
    stated = json.dumps(preprocessing(run, format), indent=1, ensure_ascii=False)
    (folder / "preprocessing.json").write_text(stated + "\n", encoding="utf-8")
    shutil.copy(run.path / "recipe.yaml", folder)
    (folder / "classify.py").write_text(script(run, format), encoding="utf-8")


def script(run, format: str) -> str:
    """The text of classify.py: `read(path)`, `probabilities(pixels)`, and the two put together."""
    size = run.architecture["image_size"]
    imports, load, answer = _RUNTIMES[format]
    return _SCRIPT.format(
        packages=" ".join(formats.FORMATS[format].runtime),
        first="import os\n" * ("os." in load),
        imports=imports,
        load=load,
        size=size,
        classes=len(run.classes),
        resize=_RESIZE_LINE[run.recipe.resize].format(size=size),
        answer=answer,
    )


def preprocessing(run, format: str) -> dict:
    """The exact statement of what must be done to an image, as plain data."""
    size, architecture = run.architecture["image_size"], run.architecture
    batch = 1 if format == "litert" else "any"
    stated = {
        "input": {
            "name": "pixels",
            "dtype": "float32",
            "shape": [batch, size, size, 3],
            "values": "0 to 255, whole numbers, red-green-blue; do not scale them",
        },
        "steps": [
            "decode the image in 8 bits a channel (16-bit grey: divide by 257), the first frame of an "
            "animation; JPEG with the accurate integer transform, as libjpeg does by default",
            "turn it upright as its EXIF orientation says",
            "lay transparency on white",
            "convert to red-green-blue",
            f"resize to {size} x {size} pixels, {_RESIZING[run.recipe.resize]}",
        ],
        "resize": run.recipe.resize,
        "inside_the_model": _SCALING[architecture["preprocessing"]],
        "output": {
            "name": "probabilities",
            "dtype": "float32",
            "shape": [batch, len(run.classes)],
            "labels": "labels.txt, in this order",
        },
        "temperature": calibration.temperature_of(run),
        "temperature_note": "already divided into the last layer: do not apply it again",
    }
    if format == "saved_model":
        stated["signatures"] = {
            "pixels": "takes the input above",
            "serving_default": "takes image_bytes, string (batch,), the bytes of JPEG, PNG, GIF, BMP or "
            "static WebP files, and decodes and resizes them in the graph",
            "serving_default_limits": "TensorFlow's decoder does not apply EXIF orientation, drops "
            "transparency instead of laying it on white, and reads no AVIF, TIFF, animated WebP, ICO, "
            "PPM or JPEG 2000; decoded pixels differ from those above by up to about 1 level of 255",
        }
    return stated


def model_card(run, home, format: str, precision: str, certificate: dict) -> str:
    """The text of MODEL_CARD.md.

    Args:
        run: a finished Run.
        home: where its dataset is looked for.
        format, precision: of the export.
        certificate: of `engine.exports.certify.certify`.
    """
    about = formats.FORMATS[format]
    parts = [
        f"# {run.recipe.name}: an image classifier in {about.title}, {precision}",
        "Made by Graft from run " + f"`{run.id}`. Classes: {', '.join(run.classes)}.",
        _use(format, about),
        "## Does it answer as the run does?\n\n" + in_words(certificate),
        _data(run, home),
        _recipe(run),
        _figures(run),
        _confidence(run),
        _limits(run, format),
        _licences(run),
        _versions(run, certificate),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def one_line(certificate: dict) -> str:
    """What a certificate comes to, in a sentence or two."""
    c = certificate
    found = (
        f"{formats.FORMATS[c['format']].title} {c['precision']}: {c['equal_labels']:.1%} equal labels on "
        f"{c['images']} images, "
    )
    if c["largest_difference"] is None:
        found += "answers that are no probabilities"
    else:
        found += f"largest difference {c['largest_difference']:.1e}"
    found += f", {c['images_per_second']:.0f} images/s."
    if c["encoded"]:
        found += f" From encoded files, decoded by TensorFlow: {_encoded(c['encoded'])}."
    if c["agrees"]:
        return found
    return f"{found} THIS EXPORT DOES NOT AGREE WITH THE RUN; do not rely on its answers."


def _encoded(found: dict) -> str:
    refused = f", {found['refused']} refused" if found["refused"] else ""
    if not found["n"]:
        return f"none answered{refused}"
    largest = found["largest_difference"]
    return f"{found['equal_labels']:.1%} equal labels, largest difference {largest:.1e}{refused}"


def in_words(certificate: dict) -> str:
    """A certificate as a paragraph."""
    c = certificate
    verdict = (
        "**Yes, it agrees.**"
        if c["agrees"]
        else "**NO: IT DOES NOT AGREE. Do not use it without looking into why.**"
    )
    largest = c["largest_difference"]
    bound = c["bounds"]["largest_difference"]
    text = (
        f"{verdict} Loaded again in a process of its own, with only its runtime, it was put "
        f"{c['images']} images ({c['images_from']}). {c['equal_labels']:.2%} have the same most "
        f"probable class as in Graft ({c['different_labels']} differ; asked for: at least "
        f"{c['bounds']['equal_labels']:.1%}). "
    )
    if largest is None:
        return text + "It gives answers that are no probabilities."
    text += f"The largest difference in any probability is {largest:.1e}"
    text += ". " if bound is None else f" (allowed: {bound:g}). "
    text += (
        f"Median over images {c['difference']['median']:.1e}, 99th percentile "
        f"{c['difference']['percentile_99']:.1e}. "
    )
    if half := c.get("float16"):
        text += (
            f"{half['share']:.0%} of the weights are stored in float16 ({half['kernels']} of the largest "
            "kernels), as far as the answers stay the same; the rest in float32. "
        )
    if c["unseen"] and c["unseen"]["n"]:
        text += (
            f"Of the {c['unseen']['n']} images that its precision was not fitted on, "
            f"{c['unseen']['equal_labels']:.2%} have the same class. "
        )
    text += (
        f"Speed from prepared pixels on {c['machine']}: {c['images_per_second']:.0f} images/s "
        f"(batch {c['batch']}); Graft's own path in the same process: "
        f"{c['graft_images_per_second']:.0f} images/s."
    )
    if encoded := c["encoded"]:
        text += f"\n\nFrom the encoded bytes (`serving_default`): {encoded['n']} images"
        text += f", {encoded['refused']} refused" * bool(encoded["refused"])
        if encoded.get("largest_difference") is not None:
            text += (
                f", {encoded['equal_labels']:.2%} with the same class, largest difference "
                f"{encoded['largest_difference']:.1e}: TensorFlow's decoder and resizing give pixels that "
                "differ by up to about 1 level of 255"
            )
        text += "."
    return text


def _use(format, about):
    text = f"""## Use

    pip install {" ".join(about.runtime)} numpy pillow
    python classify.py photo.jpg

`{about.model}` takes `pixels` and gives `probabilities`; `preprocessing.json` states exactly what pixels are, \
`labels.txt` names the classes in order, and `classify.py` does it all."""
    if format == "saved_model":
        text += """

A server needs no preprocessing: the signature `serving_default` takes the bytes of image files, but knows \
nothing of EXIF orientation (turn photos upright first); its limits stand in `preprocessing.json`.

    model.signatures["serving_default"](tf.constant([open("photo.jpg", "rb").read()]))"""
    return text


def _data(run, home):
    spec = run.recipe.dataset
    try:
        dataset = datasets.open_dataset(spec, home)
        title, description, n = dataset.title, dataset.description, len(dataset)
    except DatasetError:
        title, description, n = spec.title, "", None
    split = homes.read_json(run.path / "split.json", {})
    counts = ", ".join(
        f"{len(split[p]):,} {p}" for p in ("train", "validation", "test") if p in split
    )
    rows = [f"- Dataset: {title}" + (f", {n:,} images" if n else "") + f" (source: {spec.source})"]
    if description:
        rows.append(f"- Description: {' '.join(description.split())}")
    rows.append(f"- Images: {counts or 'not stated'}; the parts share no image")
    if run.decisions:
        rows.append(f"- Decisions of people about single images: {run.decisions}")
    rows.append(f"- Fingerprint: `{split.get('fingerprint', 'not stated')}`")
    return "## Data\n\n" + "\n".join(rows)


def _recipe(run):
    recipe, architecture = run.recipe, run.architecture
    stages = "; ".join(
        f"{s.name}: {s.epochs} epochs of {s.optimizer}, rate {s.learning_rate:g}, learns {s.trainable}"
        for s in recipe.stages
    )
    return f"""## Recipe

- Backbone: {recipe.backbone.title}, weights: {recipe.backbone.weights or "random"}, \
{architecture["params"]["total"]:,} parameters in all
- Image size: {architecture["image_size"]} pixels, resized {recipe.resize}
- Stages: {stages}; weights kept: {run.kept_stage or "not stated"}
- Everything else: `recipe.yaml`, hash `{recipe.hash}`"""


def _figures(run):
    evaluation = run.evaluation
    if not evaluation:
        return "## Figures\n\nThe run was not evaluated."
    rows = ["| part | images | accuracy (95 % Wilson interval) |", "| --- | ---: | --- |"]
    for part in ("test", "validation"):
        if (figures := evaluation.get(part)) and figures["n"]:
            low, high = figures["interval"]
            rows.append(
                f"| {part} | {figures['n']:,} | {figures['accuracy']:.1%} ({low:.1%} to {high:.1%}) |"
            )
    rows += ["", "On the test part, which decided nothing:", ""]
    rows += [
        "| class | images | recall (95 % Wilson interval) | precision |",
        "| --- | ---: | --- | --- |",
    ]
    test = evaluation["test"]
    for i, row in enumerate(test["per_class"]):
        low, high = wilson_interval(test["confusion"][i][i], row["support"])
        recall = "-" if row["recall"] is None else f"{row['recall']:.1%} ({low:.1%} to {high:.1%})"
        precision = "-" if row["precision"] is None else f"{row['precision']:.1%}"
        rows.append(f"| {row['label']} | {row['support']} | {recall} | {precision} |")
    return (
        "## Figures\n\nOf the run itself; the certificate says how near the export comes.\n\n"
        + "\n".join(rows)
    )


def _confidence(run):
    found = calibration.summary(run)
    if not found:
        return (
            "## Confidence\n\nThe run was not calibrated: a probability of 90 % may not mean right 9 times "
            "in 10."
        )
    return (
        f"## Confidence\n\nCalibrated on the validation part: temperature {found['temperature']:.3f}, "
        f"already inside the model. Expected calibration error on the test part "
        f"{found['after']['ece']:.3f}, before it {found['before']['ece']:.3f}."
    )


def _limits(run, format):
    rows = [
        "It always answers with one of its classes, whatever the image shows: Graft's warning about images "
        "unlike the training data is not part of the export",
        "Its figures hold for images like those of its dataset; on others, measure anew",
        "One label an image: no detection, no several labels",
        "Training on biased pictures gives biased answers; nobody has looked for that here",
    ]
    if format == "saved_model":
        rows.append(
            "`serving_default` applies no EXIF orientation and lays no transparency on white"
        )
    return "## Limits\n\n" + "\n".join(f"- {row}" for row in rows)


def _licences(run):
    backbone = run.recipe.backbone
    return f"""## Licences

Graft does not know them. Fill them in before you pass this on.

- Licence of the images ({run.recipe.dataset.title}): not stated
- Licence of the backbone's weights ({backbone.title}, {backbone.weights or "random"}): not stated
- Licence of this model: not stated
- Contact: not stated"""


def _versions(run, certificate):
    trained = run.environment.get("packages", {})
    c = certificate
    return f"""## Versions

- Trained with: {", ".join(f"{k} {v}" for k, v in trained.items()) or "not stated"}
- Checked with: {", ".join(f"{k} {v}" for k, v in c["runtime"].items())}, Python {c["python"]}, {c["date"]}
- Files: {", ".join(f"`{name}` SHA-256 `{digest}`" for name, digest in c["files"].items())}"""
