"""An export's model card and its certificate in words. Light.

The card follows "Model Cards for Model Reporting" (Mitchell et al. 2019, FAT*): what the model was
made from, how well it does and how certain that is, and what it is not for. It names what Graft
does not know.
"""

from pathlib import Path

from engine import home as homes
from engine.data import datasets
from engine.errors import DatasetError
from engine.exports import formats
from engine.host.words import listed, percent, plural, shown
from engine.predict import calibration
from engine.predict.evaluation import beside_copies, wilson_interval
from engine.runs import files
from engine.runs.runs import Run
from engine.runs.worst import worst

NAMED = 50
"""Most classes that the card names."""


def model_card(run: Run, home: Path, certificate: dict) -> str:
    """The text of MODEL_CARD.md.

    Args:
        run: a finished run.
        home: Graft's home, where the run's dataset is looked up.
        certificate: the certificate of `engine.exports.worker.export`.
    """
    format = certificate["format"]
    about = formats.FORMATS[format]
    parts = [
        f"# {run.recipe.name}: an image classifier in {about.title}, {certificate['precision']}",
        f"Made by Graft from run `{run.id}`. {_classes(run)}.",
        _use(format, about),
        "## Does it agree with the run?\n\n" + _in_words(certificate),
        _data(run, home),
        _recipe(run),
        _evaluation(run),
        _confidence(run),
        _limits(format),
        _licences(run),
        _versions(run, certificate),
    ]
    return "\n\n".join(parts) + "\n"


def _classes(run) -> str:
    more = ", all in `labels.txt`" if len(run.classes) > NAMED else ""
    return f"{plural(len(run.classes), 'class', 'classes')}: {listed(run.classes, NAMED)}{more}"


def one_line(certificate: dict) -> str:
    """The result of a certificate in one to three sentences."""
    c = certificate
    found = f"{formats.FORMATS[c['format']].title} {c['precision']}: "
    found += f"{percent(c['equal_labels'])} equal labels on {plural(c['images'], 'image')}, "
    if c["largest_difference"] is None:
        found += "answers that are not probabilities"
    else:
        found += f"largest difference {c['largest_difference']:.1e}"
    found += f", {c['images_per_second']:.0f} images/s."
    if encoded := c["encoded"]:
        found += " From encoded files, decoded by TensorFlow: "
        if encoded["n"]:
            found += f"{percent(encoded['equal_labels'])} equal labels, "
            found += f"largest difference {encoded['largest_difference']:.1e}"
        else:
            found += "no answers"
        found += f"{_refused(encoded)}."
    if not c["agrees"]:
        found += " THIS EXPORT DOES NOT AGREE WITH THE RUN; do not rely on its answers."
    return found


def _refused(encoded) -> str:
    return f", {encoded['refused']:,} refused" if encoded["refused"] else ""


def _in_words(c) -> str:
    """A certificate as a paragraph or two."""
    agrees = "**Yes, it agrees.**"
    differs = "**NO: IT DOES NOT AGREE. Find out why before you use it.**"
    text = (
        f"{agrees if c['agrees'] else differs} The export was loaded again in a separate process, "
        f"with only its own runtime, and classified {plural(c['images'], 'image')} "
        f"({c['images_from']}). For {percent(c['equal_labels'], 2)} of them, the most probable "
        f"class is the same as in Graft ({c['different_labels']:,} differ; required: at least "
        f"{percent(c['bounds']['equal_labels'])}). "
    )
    if c["largest_difference"] is None:
        return text + "Its answers are not probabilities."
    bound = c["bounds"]["largest_difference"]
    text += f"The largest difference in any probability is {c['largest_difference']:.1e}"
    text += ". " if bound is None else f" (allowed: {bound:g}). "
    text += (
        f"Median over images: {c['difference']['median']:.1e}, 99th percentile: "
        f"{c['difference']['percentile_99']:.1e}. "
    )
    if half := c["float16"]:
        text += (
            f"{percent(half['share'], 0)} of the weights are stored in float16 "
            f"({plural(half['kernels'], 'large kernel')}), as far as the answers stay the same; "
            "the rest is stored in float32. "
        )
    if c["unseen"] and c["unseen"]["n"]:
        text += (
            f"Of the {plural(c['unseen']['n'], 'image')} not used to fit the precision, "
            f"{percent(c['unseen']['equal_labels'], 2)} have the same class. "
        )
    text += (
        f"Speed from prepared pixels on {c['machine']}: {c['images_per_second']:.0f} images/s "
        f"(batch size {c['batch']}); Graft's own network in the same process: "
        f"{c['graft_images_per_second']:.0f} images/s."
    )
    if encoded := c["encoded"]:
        text += f"\n\nFrom encoded files (`serving_default`): {plural(encoded['n'], 'image')}"
        text += _refused(encoded)
        if encoded.get("largest_difference") is not None:
            text += (
                f", {percent(encoded['equal_labels'], 2)} with the same class, largest difference "
                f"{encoded['largest_difference']:.1e}. TensorFlow decodes and resizes to pixels "
                "that differ by up to about 1 level of 255"
            )
        text += "."
    return text


def _use(format, about) -> str:
    text = f"""## Use

    pip install {" ".join(about.runtime)} numpy pillow
    python classify.py photo.jpg

`{about.model}` takes `pixels` and returns `probabilities`. `preprocessing.json` specifies the \
pixels, `labels.txt` lists the classes in order, and `classify.py` is a complete example."""
    if format == "saved_model":
        text += """

A server needs no preprocessing: the signature `serving_default` takes the bytes of image files. \
It ignores EXIF orientation, so rotate photos upright first; `preprocessing.json` lists its limits.

    model.signatures["serving_default"](tf.constant([open("photo.jpg", "rb").read()]))"""
    return text


def _data(run, home) -> str:
    spec = run.recipe.dataset
    try:
        dataset = datasets.open_dataset(spec, home)
        title, description, size = dataset.title, dataset.description, f", {len(dataset):,} images"
    except DatasetError:
        title, description, size = spec.title, "", ""
    split = homes.read_json(run.checked(files.SPLIT), {})
    counts = ", ".join(
        f"{len(split[part]):,} {part}" for part in ("train", "validation", "test") if part in split
    )
    rows = [f"- Dataset: {title}{size} (source: {spec.source})"]
    if description:
        rows.append(f"- Description: {' '.join(description.split())}")
    rows.append(f"- Images: {counts or 'not stated'}; no image is in two parts")
    if run.decisions:
        rows.append(f"- Manual changes to single images: {run.decisions}")
    rows.append(f"- Fingerprint: `{split.get('fingerprint', 'not stated')}`")
    return "## Data\n\n" + "\n".join(rows)


def _recipe(run) -> str:
    recipe, architecture = run.recipe, run.architecture
    stages = "; ".join(
        f"{s.name}: {plural(s.epochs, 'epoch')} with {s.optimizer}, learning rate "
        f"{s.learning_rate:g}, trainable: {s.trainable}"
        for s in recipe.stages
    )
    return f"""## Recipe

- Backbone: {recipe.backbone.title}, weights: {recipe.backbone.weights or "random"}, \
{plural(architecture["params"]["total"], "parameter")} in total
- Image size: {architecture["image_size"]} pixels, resize: {recipe.resize}
- Stages: {stages}; weights kept from stage: {run.kept_stage or "not stated"}
- Everything else: `recipe.yaml`, hash `{recipe.hash}`"""


def _evaluation(run) -> str:
    if not run.evaluation:
        return "## Evaluation\n\nThe run was not evaluated."
    rows = [
        "## Evaluation\n\nOf the run; the certificate says how closely the export agrees with it.",
        "",
        "| part | images | accuracy (95% Wilson interval) |",
        "| --- | ---: | --- |",
    ]
    for part in ("test", "validation"):
        if (figures := run.evaluation.get(part)) and figures["n"]:
            accuracy = _with_interval(figures["accuracy"], figures["interval"])
            rows.append(f"| {part} | {figures['n']:,} | {accuracy} |")
    test = run.evaluation["test"]
    if beside := beside_copies(test):
        rows += ["", f"Test accuracy: {percent(test['accuracy'])} of {test['n']:,}{beside}."]
    rows += [
        "",
        "On the test part, which was not used in training or for any choice:",
        "",
        "| class | images | recall (95% Wilson interval) | precision |",
        "| --- | ---: | --- | --- |",
    ]
    places = {row["label"]: i for i, row in enumerate(test["per_class"])}
    kept = worst(test["per_class"], NAMED)
    for row in kept:
        right = test["confusion"][places[row["label"]]][places[row["label"]]]
        interval = wilson_interval(right, row["support"])
        recall = _with_interval(row["recall"], interval)
        precision = percent(row["precision"])
        label = shown(row["label"]).replace("|", "\\|")
        rows.append(f"| {label} | {row['support']:,} | {recall} | {precision} |")
    if more := len(places) - len(kept):
        rows += ["", f"These classes have the lowest F1; {more:,} others are not listed."]
    return "\n".join(rows)


def _with_interval(share, interval) -> str:
    low, high = interval
    return percent(share) + ("" if share is None else f" ({percent(low)} to {percent(high)})")


def _confidence(run) -> str:
    found = calibration.summary(run)
    if not found:
        return (
            "## Confidence\n\nThe run was not calibrated: answers with a probability of 90% may "
            "not be correct 9 times out of 10."
        )
    return (
        "## Confidence\n\nCalibrated on the validation part: temperature "
        f"{found['temperature']:.3f}, already part of the model. Expected calibration error on the "
        f"test part: {found['after']['ece']:.3f}, without calibration {found['before']['ece']:.3f}."
    )


def _limits(format) -> str:
    rows = [
        "It always answers with one of its classes, whatever the image shows. Graft's warning "
        "about images unlike the training data is not part of the export",
        "These results hold for images like those in its dataset; measure again on others",
        "One label per image: no object detection, no multiple labels",
        "Biased training images give biased answers; nobody has checked for bias here",
    ]
    if format == "saved_model":
        rows.append(
            "`serving_default` ignores EXIF orientation and does not put transparent images on "
            "white"
        )
    return "## Limits\n\n" + "\n".join(f"- {row}" for row in rows)


def _licences(run) -> str:
    backbone = run.recipe.backbone
    return f"""## Licences

Graft does not know them. Fill them in before you share this model.

- Licence of the images ({run.recipe.dataset.title}): not stated
- Licence of the backbone's weights ({backbone.title}, {backbone.weights or "random"}): not stated
- Licence of this model: not stated
- Contact: not stated"""


def _versions(run, c) -> str:
    trained, checked = (
        ", ".join(f"{name} {version}" for name, version in packages.items())
        for packages in (run.environment.get("packages", {}), c["runtime"])
    )
    return f"""## Versions

- Trained with: {trained or "not stated"}
- Checked with: {checked}, Python {c["python"]}, {c["date"]}
- Files: {", ".join(f"`{name}` SHA-256 `{digest}`" for name, digest in c["files"].items())}"""
