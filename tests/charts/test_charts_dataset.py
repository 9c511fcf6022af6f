"""Charts of a dataset: what is drawn, and that a pick gives exactly the images that it shows."""

import numpy as np
import pytest

from engine.charts import dataset as charts_dataset
from engine.data import datasets, prepare_worker
from engine.recipe import DatasetSpec, SplitSpec


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    from engine import home as homes

    home = homes.home(tmp_path_factory.mktemp("home"))
    return prepare_worker.ingest(DatasetSpec(source="sample", images=100), home)


def test_every_bar_and_dot_stands_for_as_many_images_as_it_shows(dataset):
    parts = dataset.split(SplitSpec())
    ratios = dataset.widths / dataset.heights
    figures = [
        charts_dataset.class_counts(dataset, parts),
        charts_dataset.class_counts(dataset),
        charts_dataset.formats(dataset),
        charts_dataset.histogram(ratios, "aspect", "Aspect ratio", "width / height"),
    ]
    for figure in figures:
        shown = 0
        for trace in figure.data:
            lengths = trace.x if trace.orientation == "h" else trace.y
            for pick, length in zip(trace.customdata, lengths, strict=True):
                found = charts_dataset.picked([list(pick)], dataset, parts, {"aspect": ratios})
                assert len(found) == length
                shown += length
        assert shown == len(dataset)
    sizes = charts_dataset.image_sizes(dataset).data[0]
    for pick, w, h in zip(sizes.customdata, sizes.x, sizes.y, strict=True):
        found = charts_dataset.picked([list(pick)], dataset)
        assert (
            len(found)
            and (dataset.widths[found] == w).all()
            and (dataset.heights[found] == h).all()
        )


@pytest.mark.parametrize(("by", "traces"), [("class", 5), ("part", 3), ("correctness", 3)])
def test_the_map_places_every_image_once_and_a_lasso_gives_them_back(dataset, by, traces):
    random = np.random.default_rng(0)
    projection = random.normal(size=(len(dataset), 2))
    projection[3] = np.nan  # an image whose features could not be had
    right = np.array([1, 0, -1] * 34)[:100]
    parts = dataset.split(SplitSpec())
    figure = charts_dataset.embedding_map(dataset, projection, by, parts, right)
    assert len(figure.data) == traces
    picks = [list(pick) for trace in figure.data for pick in trace.customdata]
    found = charts_dataset.picked(picks, dataset)
    assert found.tolist() == [i for i in range(100) if i != 3]
    assert picks[0][2] == dataset.contents[picks[0][1]]


def test_a_pick_means_the_same_images_after_others_were_left_out(dataset):
    first = zip(dataset.contents[:5].tolist(), dataset.names[:5], strict=True)
    gone = [{"content": c, "name": name, "do": "exclude", "to": ""} for c, name in first]
    fewer = datasets.Dataset(dataset.path, {"id": "0" * 16, "decisions": gone})
    picks = [["image", i, str(dataset.contents[i]), ""] for i in (2, 20, 21)]
    names = [fewer.names[i] for i in charts_dataset.picked(picks, fewer)]
    assert names == [dataset.names[20], dataset.names[21]]


def test_picks_from_elsewhere_choose_nothing(dataset):
    for pick in (
        ["image", 3, "of another dataset"],
        ["image"],
        ["class", "moose", ""],
        ["format", "TIFF"],
        ["range", "unknown", 0, 9],
    ):
        assert not len(charts_dataset.picked([pick], dataset))


def test_a_measure_that_is_the_same_everywhere_or_missing_can_be_drawn(dataset):
    same = charts_dataset.histogram(np.full(5, 2.0), "x", "X", "")
    assert sum(same.data[0].y) == 5
    assert not charts_dataset.histogram(np.full(5, np.nan), "x", "X", "").data
