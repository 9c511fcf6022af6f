"""Ten damaged files in Chromium: the page that reads each names it in one sentence."""

import re

import pytest
from playwright.sync_api import expect

from engine import home as homes
from engine.data import prepare_worker
from engine.recipe import DatasetSpec
from engine.runs import files
from tests.support.browser import chromium, server
from tests.support.damage import cut, flip, linked

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not chromium(), reason="needs a browser: apt-get install chromium"),
]
RUNS = {
    files.LITERT: "test",
    files.ARCHITECTURE: "test",
    files.CONFIDENCE: "test",
    files.REFERENCE: "test",
    files.EVALUATION: "runs",
    files.EVENTS: "runs",
    files.RECIPE: "runs",
    files.STATUS: "runs",
}
DATASETS = {"index.npz": 60, "images.bin": 90}
"""Images of the sample in which each file is damaged."""


@pytest.fixture(scope="module")
def address(trained_run, tmp_path_factory):
    """A server on a home with a copy of the run, or a dataset, for each damaged file."""
    home = homes.home(tmp_path_factory.mktemp("damaged"))
    for number, name in enumerate(RUNS):
        flip(linked(trained_run.path, home / "runs" / f"{trained_run.id}-{number}") / name)
    for name, images in DATASETS.items():
        spec = DatasetSpec(source="sample", images=images)
        cut(prepare_worker.ingest(spec, home).path / name)
    with server(home, tmp_path_factory.mktemp("log") / "server.log") as (found, _):
        yield found


@pytest.mark.parametrize("name", [*RUNS, *DATASETS])
def test_the_page_names_the_damaged_file(address, trained_run, page, name):
    if name in DATASETS:
        page.goto(f"{address}/dataset?preset=sample&set=dataset.images={DATASETS[name]}")
    else:
        page.goto(f"{address}/{RUNS[name]}?run={trained_run.id}-{list(RUNS).index(name)}")
    if name == files.LITERT:  # the others are said at once
        page.get_by_role("radio", name="Test images of this run").click()
    said = page.get_by_text(re.compile(f"{re.escape(name)}.*(damaged|cut off|not the file)"))
    expect(said.first).to_be_visible()
    expect(page.get_by_text("Traceback")).to_have_count(0)
