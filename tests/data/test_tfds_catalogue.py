"""The list of TensorFlow Datasets against the installed package, and downloading with progress."""

import importlib.util
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine import home as homes
from engine.data import datasets, prepare_worker
from engine.data.sources import tfds_catalogue, tfds_download
from engine.errors import DatasetError
from engine.host import background_worker, processes
from engine.recipe import DatasetSpec

PACKAGE = Path(importlib.util.find_spec("tensorflow_datasets").origin).parent


def sizes(name) -> list[int]:
    """Bytes of each file that a dataset may fetch, as the package lists them."""
    name = name.split("/")[0]
    listed = [
        PACKAGE / "datasets" / name / "checksums.tsv",
        PACKAGE / "url_checksums" / f"{name}.txt",
    ]
    rows = next(path for path in listed if path.exists()).read_text().splitlines()
    rows = [row.split("\t") if "\t" in row else row.split(" ") for row in rows if row.strip()]
    return [int(row[1]) for row in rows]


@pytest.mark.parametrize("entry", tfds_catalogue.CATALOGUE, ids=lambda entry: entry.name)
def test_each_is_in_the_package_with_its_size(entry):
    mib = [size / 2**20 for size in sizes(entry.name)]
    # One configuration of several fetches one file, or the first two.
    assert any(abs(each - entry.download_mib) < 0.02 for each in (sum(mib), *mib, sum(mib[:2])))
    assert DatasetSpec(source="tfds", name=entry.name).title == entry.name
    assert entry.images >= 500 and entry.classes >= 2 and entry.what
    assert bool(entry.licence_from) == (entry.licence != tfds_catalogue.NOT_STATED)
    assert entry.url.startswith("https://www.tensorflow.org/datasets/catalog/")
    assert entry.licence in datasets.TFDS_SUGGESTIONS[entry.name]


def test_there_are_twenty_to_choose_from():
    assert len({entry.name for entry in tfds_catalogue.CATALOGUE}) >= 20


@dataclass
class Info:
    download_size: int | None


@dataclass
class Builder:
    """Replaces a TensorFlow Datasets builder and writes to the same places.

    It takes a step whenever the previous one has been reported (`said`).
    """

    data_dir_root: Path
    info: Info
    said: list = field(default_factory=list)
    steps: int = 4
    url_infos: dict = field(default_factory=dict)
    builder_configs: dict = field(default_factory=dict)
    error: Exception | None = None

    def download_and_prepare(self, download_dir):
        folder = Path(download_dir)
        aside = folder / "beans.zip.tmp.1234"
        aside.mkdir(parents=True)
        for _ in range(self.steps):
            with open(aside / "beans.zip", "ab") as file:
                file.write(bytes(1 << 20))
            self.wait()
        if self.error:
            raise self.error
        (aside / "beans.zip").rename(folder / "beans.zip")
        (folder / "extracted").mkdir()
        (folder / "extracted" / "beans").write_bytes(bytes(50 << 20))
        self.wait()

    def wait(self):
        """Until three more reports were made: the third comes of two looks after the writing."""
        until, patience = len(self.said) + 3, time.monotonic() + 30
        while len(self.said) < until and time.monotonic() < patience:
            time.sleep(0.005)

    def report(self, *now):
        self.said.append(now)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(tfds_download, "LOOK_SECONDS", 0.01)


def test_a_download_tells_how_far_it_is(tmp_path, quick):
    before = threading.active_count()
    # What another dataset left there does not count.
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "other.zip").write_bytes(bytes(7 << 20))
    builder = Builder(tmp_path, Info(4 << 20))
    tfds_download.download(builder, "beans", builder.report)
    said = builder.said
    assert said[0] == ("Downloading beans", 0, None)
    figures = [now for now in said if now[2]]
    assert ("Downloading beans: 2 of 4 MiB", 2 << 20, 4 << 20) in figures
    assert [done for _, done, _ in figures] == sorted(done for _, done, _ in figures)
    assert said[-1] == ("Unpacking beans", 0, None)
    assert threading.active_count() == before


def test_a_download_without_a_known_size_tells_what_came(tmp_path, quick):
    builder = Builder(tmp_path, Info(None))
    tfds_download.download(builder, "toy", builder.report)
    assert ("Downloading toy: 2 MiB", 2 << 20, None) in builder.said


@dataclass
class Url:
    size: int


@pytest.mark.parametrize(
    ("name", "configs", "total"),
    [
        ("beans:0.1.0", {}, 180_030_013),  # of the catalogue
        ("toy", {}, 3 << 20),  # of the files that the package lists
        ("toy", {"small": 1, "large": 2}, None),  # those are the files of all of them
    ],
)
def test_a_size_that_the_builder_does_not_know_is_looked_up(name, configs, total, tmp_path, quick):
    urls = {"http://nowhere.invalid/a.zip": Url(3 << 20)}
    builder = Builder(tmp_path, Info(0), steps=1, url_infos=urls, builder_configs=configs)
    tfds_download.download(builder, name, builder.report)
    assert {now[2] for now in builder.said[1:]} - {None} == ({total} if total else set())


def test_a_download_that_fails_ends_its_watcher(tmp_path, quick):
    builder = Builder(tmp_path, Info(4 << 20), steps=1, error=OSError("the disk is full"))
    before = threading.active_count()
    with pytest.raises(OSError, match="disk is full"):
        tfds_download.download(builder, "beans", builder.report)
    assert threading.active_count() == before


def test_the_time_left_is_counted_over_the_whole_download(own_home, monkeypatch):
    """The figures after the colon change; the phase, and with it the time it began, does not."""
    spec = DatasetSpec(source="tfds", name="beans")
    asked = []

    def slow(spec, home, report):
        for done in (1, 2, 3):
            report(f"Downloading beans: {done} of 4 MiB", done << 20, 4 << 20)
            time.sleep(0.3)
            asked.append(datasets.state(spec, home))
        raise DatasetError("the end of the test")

    monkeypatch.setitem(prepare_worker.SOURCES, "tfds", slow)
    path = datasets.job(spec, own_home).path
    request = {"kind": "prepare", "parameters": {"spec": spec.model_dump()}}
    homes.write_json(path, request | processes.identity())  # this process does the work
    assert background_worker.main(str(path), str(own_home)) == 1
    assert [now["text"] for now in asked] == [f"Downloading beans: {i} of 4 MiB" for i in (1, 2, 3)]
    # 3 of 4 MiB after 0.9 s or more, counted from the beginning: 0.3 s are left, not 0.1.
    assert asked[2]["eta_seconds"] >= 0.29
    assert datasets.state(spec, own_home)["error"] == "the end of the test"
