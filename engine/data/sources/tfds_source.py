"""A TensorFlow Dataset as a source of images.

Heavy, in its functions: it imports TensorFlow Datasets, and TensorFlow with it.
"""

from __future__ import annotations

import difflib
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.data.sources.source import Item, Source
from engine.data.sources.tfds_download import download
from engine.errors import DatasetError
from engine.host.background import Report
from engine.recipe import DatasetSpec, tfds_problem

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


def open_source(spec: DatasetSpec, home: Path, report: Report) -> Source:
    """The images of a TensorFlow Dataset, downloaded first if needed.

    Raises:
        DatasetError: for an unknown dataset, one that is not for image classification, or a
            download that failed.
    """
    # Checked again here, where it matters: some names make the builder run code from elsewhere.
    if problem := tfds_problem(spec.name):
        raise DatasetError(problem)
    report("Starting TensorFlow Datasets", 0, None)
    import tensorflow_datasets as tfds

    builder = _builder(spec.name)
    picture, label = _columns(builder, spec.name)
    try:
        if not builder.is_prepared():
            _reach(list(builder.url_infos or {}))
            download(builder, spec.name, report)
    except Exception as error:  # network, disk, checksum and manual-download errors of many types
        raise DatasetError(
            f"{spec.name} could not be downloaded ({_line(error)}); without a network, copy a "
            f"prepared {spec.name} into {builder.data_dir} or set TFDS_DATA_DIR to its folder, "
            "use a folder of images, or the built-in sample"
        ) from None
    names = list(builder.info.features[label].names)
    counts = {name: info.num_examples for name, info in builder.info.splits.items()}

    def items() -> Iterator[Item]:
        # One file at a time, so that positions are those that slices such as train[:10%] mean.
        reading = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
        for part in counts:
            data = builder.as_dataset(
                split=part,
                shuffle_files=False,
                read_config=reading,
                decoders={picture: tfds.decode.SkipDecoding()},
            )
            for place, example in enumerate(data.as_numpy_iterator()):
                number = int(example[label])
                if number < 0:  # a part published without labels
                    continue
                content = bytes(example[picture])
                yield (
                    f"{part}/{names[number]}/{place:06d}",
                    number,
                    part,
                    0,
                    partial(bytes, content),
                )

    return Source(
        spec.name,
        builder.info.description.strip().split("\n")[0],
        names,
        sum(counts.values()),
        items(),
    )


def _builder(name: str) -> tfds.core.DatasetBuilder:
    """The builder of a dataset. Raises DatasetError if there is none."""
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name)
    except tfds.core.registered.DatasetNotFoundError:
        near = difflib.get_close_matches(
            name.split("/")[0].split(":")[0], sorted(set(tfds.list_builders())), 3
        )
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise DatasetError(f"TensorFlow Datasets has no dataset {name!r}{hint}") from None
    except Exception as error:  # an unknown config or version, in several exception types
        raise DatasetError(f"TensorFlow Datasets cannot open {name!r}: {_line(error)}") from None


def _columns(builder: tfds.core.DatasetBuilder, name: str) -> tuple[str, str]:
    """The names of the features that are the image and the class. Raises DatasetError."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    pictures = [k for k, f in features.items() if isinstance(f, tfds.features.Image)]
    labels = [k for k, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
    if builder.info.supervised_keys and len(builder.info.supervised_keys) == 2:
        wanted, answer = builder.info.supervised_keys
        pictures = [wanted] if wanted in pictures else pictures
        labels = [answer] if answer in labels else labels
    if not pictures or not labels:
        raise DatasetError(
            f"{name} is not an image classification dataset (its features are "
            f"{', '.join(features)}); choose one with an image and a class label"
        )
    return pictures[0], labels[0]


def _reach(urls: list[str]) -> None:
    """Raises OSError at once if the first host cannot be reached: the downloader would retry for
    minutes. Behind a proxy, only the downloader can find out."""
    if not urls or urllib.request.getproxies():
        return
    address = urllib.parse.urlsplit(urls[0])
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname, port), timeout=10).close()
    except OSError:
        raise OSError(f"{address.hostname} cannot be reached") from None


def _line(error: Exception) -> str:
    """The first line of an error, shortened."""
    text = (str(error).strip().split("\n")[0] or type(error).__name__).rstrip(".")
    return text if len(text) < 160 else text[:157] + "…"
