"""The Dataset page in Chromium: a zip is uploaded, inspected, corrected and used for training."""

import contextlib
import io
import json
import re
import urllib.parse
import zipfile

import pytest
from PIL import Image
from playwright.sync_api import TimeoutError, expect

from engine import home as homes
from engine.data.sources import sample
from engine.runs import runs
from tests.support.browser import chromium, server, title

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not chromium(), reason="needs a browser: apt-get install chromium"),
]
LONG = 180_000  # milliseconds: a bound for a wait, never a measurement
COPIES = 6
STAGE = {"name": "frozen", "trainable": "none", "epochs": 2, "learning_rate": 0.003}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """(address, home) of a server with a home of its own."""
    home = homes.home(tmp_path_factory.mktemp("data-walk"))
    with server(home, tmp_path_factory.mktemp("log") / "server.log") as (address, _):
        yield address, home


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A zip of 100 drawings in class folders, six of them twice, and a file that is no image."""
    path = tmp_path_factory.mktemp("zip") / "pictures.zip"
    made = list(sample.generate(100))
    with zipfile.ZipFile(path, "w") as file:
        for name, label, data in made:
            file.writestr(f"pictures/{sample.CLASSES[label]}/{name.rsplit('/', 1)[-1]}", data)
        for name, label, data in made[:COPIES]:
            copy = "copy-" + name.rsplit("/", 1)[-1]
            file.writestr(f"pictures/{sample.CLASSES[label]}/{copy}", data)
        file.writestr("pictures/teacup/notes.txt", "not an image")
    return path


@pytest.fixture(autouse=True)
def patience(page):
    """A shared machine with two cores is slow now and then."""
    expect.set_options(timeout=60_000)
    page.set_default_timeout(60_000)


def metric(page, label):
    """The value of a large number."""
    found = page.get_by_test_id("stMetric").filter(has_text=re.compile(f"^{label}"))
    return found.get_by_test_id("stMetricValue")


def choose(page, label, text):
    """Chooses from a select box; its list closes when the page is drawn again meanwhile."""
    option = page.get_by_role("option", name=re.compile(text))
    for _ in range(10):
        page.get_by_role("combobox", name=re.compile(label)).click()
        with contextlib.suppress(TimeoutError):
            return option.click(timeout=5_000)
    raise AssertionError(f"{label} does not offer {text}")


def open_dataset_page(page, address):
    query = {"preset": "sample", "set": "stages=" + json.dumps([STAGE])}
    page.goto(f"{address}/dataset?{urllib.parse.urlencode(query)}")
    expect(title(page, "Dataset")).to_be_visible()


def test_a_zip_is_uploaded_its_duplicates_left_out_that_undone_and_trained_on(place, photos, page):
    address, home = place
    open_dataset_page(page, address)
    page.get_by_role("radio", name="Zip file").click()
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(str(photos))
    expect(metric(page, "Images")).to_have_text(str(100 + COPIES))
    expect(page.get_by_text("1 file left out")).to_be_visible()
    tile = page.locator(".graft-tile").first
    expect(tile.locator("img")).to_be_visible()
    page.wait_for_function("() => document.querySelector('.graft-tile img').naturalWidth > 40")

    page.get_by_role("tab", name="Findings").click()
    page.get_by_role("button", name="Inspect this dataset").click()
    leave_out = page.get_by_role("button", name=f"Leave out {COPIES} copies, keep one of each")
    expect(page.get_by_text("Look at", exact=True)).to_be_visible(timeout=LONG)
    choose(page, "Look at", "same file more than once")
    leave_out.click()
    expect(page.get_by_text(f"Your decisions: {COPIES} left out")).to_be_visible()
    expect(metric(page, "Images")).to_have_text("100")

    page.get_by_role("button", name=re.compile("^undo Undo|Undo:")).first.click()
    expect(metric(page, "Images")).to_have_text(str(100 + COPIES))
    page.get_by_role("tab", name="Decisions").click()
    page.get_by_role("button", name="Redo").click()
    expect(metric(page, "Images")).to_have_text("100")

    page.get_by_role("button", name="Use this dataset").click()
    expect(title(page, "Configure")).to_be_visible()
    expect(page.get_by_text(f"({COPIES} left out)")).to_be_visible()
    page.get_by_role("button", name="Use this recipe").click()
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("button", name="Test this model")).to_be_visible(timeout=LONG)
    expect(
        page.get_by_text(f"your decisions about single images: {COPIES} left out")
    ).to_be_visible()
    run = runs.list_runs(home)[0]
    split = json.loads((run.path / "split.json").read_text())
    assert sum(len(split[part]) for part in ("train", "validation", "test")) == 100


def test_a_click_on_a_bar_and_a_lasso_on_the_map_list_their_images(place, photos, page):
    address, home = place
    open_dataset_page(page, address)
    expect(metric(page, "Images")).to_have_text("600")
    page.get_by_role("tab", name="Counts and sizes").click()
    counts = page.get_by_role("img", name=re.compile("Images per class"))
    expect(counts.locator(".bars path").first).to_be_visible()
    box = counts.locator(".bars path").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.get_by_text("Chosen in the chart: balloon")).to_be_visible()
    expect(page.locator(".graft-tile").first).to_contain_text("balloon")


def test_images_are_added_to_a_class_of_a_dataset_put_together_here(place, page, tmp_path):
    address, home = place
    open_dataset_page(page, address)
    expect(metric(page, "Images")).to_have_text("600")
    page.get_by_role("radio", name="Build a dataset").click()
    page.get_by_label("Name").fill("more-drawings")
    page.get_by_label("Name").press("Enter")
    choose(page, "Start from", "the images of sample")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_text("Add images", exact=True)).to_be_visible()
    files = []
    for seed in range(3):
        data = io.BytesIO()
        sample.render(0, seed=90_000 + seed).save(data, "PNG")
        files.append(
            {"name": f"new-{seed}.png", "mimeType": "image/png", "buffer": data.getvalue()}
        )
    files.append({"name": "broken.png", "mimeType": "image/png", "buffer": b"no image"})
    page.get_by_test_id("stFileUploaderDropzoneInput").last.set_input_files(files)
    page.get_by_role("button", name="Add 4 images").click()
    expect(page.get_by_text("Added 3 images.")).to_be_visible()
    expect(page.get_by_text("Left out: 1 file")).to_be_visible()
    expect(metric(page, "Images")).to_have_text("603")
    assert Image.open(io.BytesIO(files[0]["buffer"])).size[0] > 0
