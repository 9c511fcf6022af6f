"""The Test page in Chromium: answers, explanations, neighbours, CSV, batches, export."""

import csv
import json
import re
import zipfile
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import expect

from engine.exports import formats
from engine.images.decode import EXTENSIONS
from tests.support.browser import answered, chromium, server, title, upload
from tests.support.pictures import picture

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not chromium(), reason="needs a browser: apt-get install chromium"),
]
EXPORTING = 300_000  # milliseconds: a bound for a wait, never a measurement


@pytest.fixture(scope="module")
def showing(graft_home, trained_run, tmp_path_factory):
    """(address, process) of a server on the home of the trained run."""
    with server(graft_home, tmp_path_factory.mktemp("log") / "server.log") as found:
        yield found


@pytest.fixture
def photos(trained_run, tmp_path):
    """Three image files of the run's own test images."""
    files = []
    for row in trained_run.examples()[:3]:
        files.append(tmp_path / f"{row['label']}-{row['path'].name}")
        files[-1].write_bytes(row["path"].read_bytes())
    return files


def test_three_files_are_answered_explained_marked_and_taken_away(
    showing, trained_run, photos, page, tmp_path
):
    address, _ = showing
    page.goto(f"{address}/test?run={trained_run.id}")
    expect(title(page, "Test")).to_be_visible()
    upload(page, *photos)
    answers = answered(page, 3)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    with open(download.value.path(), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [path.name for path in photos]
    assert [row["answer"] for row in rows] == answers
    assert all(row["sure"] for row in rows)

    # Why: Grad-CAM and occlusion for another class, and the five nearest training images.
    page.get_by_role("button", name="Look closer").first.click()
    look = page.get_by_role("dialog")
    expect(look.get_by_role("img", name=re.compile("^Grad-CAM for "))).to_be_visible()
    expect(look.get_by_text("Nearest training images")).to_be_visible()
    expect(look.get_by_text(re.compile(r", distance \d\.\d\d"))).to_have_count(5)
    look.get_by_role("radio", name="Occlusion").click()
    expect(look.get_by_role("img", name=re.compile("^Occlusion for "))).to_be_visible()

    # Marked as right or wrong, the image is kept on its tab.
    look.get_by_role("button", name=re.compile("^.*Yes: ")).click()
    expect(look.get_by_text("Marked as")).to_be_visible()
    look.get_by_role("button", name="Close").click()
    page.get_by_role("tab", name="Marked images").click()
    expect(page.get_by_text("1 image marked")).to_be_visible()
    expect(page.locator(".graft-tile")).to_have_count(1)
    page.locator(".graft-tile").click()
    page.get_by_role("button", name=re.compile("Remove 1 mark")).click()
    expect(page.get_by_text("No image is marked yet")).to_be_visible()

    page.get_by_role("tab", name="Confidence").click()
    expect(page.get_by_role("img", name="Does confidence match accuracy?")).to_be_visible()
    expect(page.get_by_text("Coverage on test images")).to_be_visible()


def test_a_zip_is_streamed_found_again_after_a_refresh_and_downloaded_as_csv(
    showing, trained_run, page, tmp_path
):
    address, _ = showing
    packed = tmp_path / "drawings.zip"
    with zipfile.ZipFile(packed, "w") as out:
        for row in trained_run.examples():
            out.writestr(f"{row['label']}/{row['path'].name}", row["path"].read_bytes())
        out.writestr("star/broken.png", b"no picture")
    count = len(trained_run.examples())
    page.goto(f"{address}/test?run={trained_run.id}")
    upload(page, packed)
    expect(page.get_by_text(f"{count} images classified")).to_be_visible()
    expect(page.get_by_text("match their folder")).to_be_visible()
    expect(page.get_by_text("1 could not be read")).to_be_visible()
    expect(page.locator(".graft-tile img").first).to_have_js_property("complete", True)
    assert page.locator(".graft-tile.lost").count() == 0
    page.wait_for_url(re.compile("batch=[0-9a-f]{16}"))
    page.reload()
    expect(page.get_by_text(f"{count} images classified")).to_be_visible()

    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    with open(download.value.path(), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count + 1
    assert {row["answer"] for row in rows} <= {*trained_run.classes, ""}
    assert sum(bool(row["error"]) for row in rows) == 1

    # An image of the grid, looked at closer.
    page.locator(".graft-tile").first.click()
    page.get_by_role("button", name=re.compile("Look closer at ")).click()
    expect(page.get_by_role("img", name=re.compile("^Grad-CAM for "))).to_be_visible()
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    page.get_by_role("radio", name="Table").click()
    expect(page.get_by_test_id("stDataFrame").last).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("images classified")).to_have_count(0)


@pytest.mark.skipif(bool(formats.missing("onnx")), reason=f"needs: pip install -r {formats.EXTRA}")
def test_onnx_is_exported_with_its_certificate(showing, trained_run, page, tmp_path):
    address, _ = showing
    page.goto(f"{address}/test?run={trained_run.id}")
    page.get_by_role("tab", name="Export").click()
    box = (
        page.get_by_test_id("stVerticalBlock").filter(has=page.get_by_text("ONNX", exact=True)).last
    )
    make, take = (
        box.get_by_role("button", name="Export and check"),
        box.get_by_role("button", name=re.compile("Download")),
    )
    expect(make.or_(take)).to_be_visible()
    if make.is_visible():
        make.click()
    expect(take).to_be_visible(timeout=EXPORTING)
    expect(box.get_by_text("100.0% equal labels")).to_be_visible()
    with page.expect_download() as download:
        take.click()
    with zipfile.ZipFile(download.value.path()) as found:
        assert json.loads(found.read("certificate.json"))["agrees"]
        assert {"model.onnx", "labels.txt", "MODEL_CARD.md", "classify.py"} <= set(found.namelist())


def test_hostile_uploads_leave_the_server_as_it_was(graft_home, trained_run, page, tmp_path):
    """Two hundred of them, as cards, which the server decodes itself, and at once: an answer or one
    sentence each; and its memory is again what it was after the same with a few photos."""
    from tests.support.hostile_uploads import write

    files = [str(path) for path in write(tmp_path / "hostile")]
    # What has no image's name is refused by the browser.
    cards = [name for name in files if Path(name).suffix.lower().lstrip(".") in EXTENSIONS]
    assert len(cards) > 150
    some = cards[::4]  # each of them is read in tests/pages/test_hostile_uploads.py
    photos = []
    for seed in range(13):
        photos.append(str(tmp_path / f"{seed}.jpg"))
        picture(1600, 1200, seed=seed).save(photos[-1])

    with server(
        # A closed tab's session is kept for two minutes otherwise, for whoever comes back.
        graft_home, tmp_path / "server.log", "--server.disconnectedSessionTTL=5"
    ) as (address, process):  # fmt: skip

        def send(chosen):
            page.goto(f"{address}/test?run={trained_run.id}")
            expect(title(page, "Test")).to_be_visible()
            page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(chosen)

        def as_cards(chosen):
            send(chosen)
            # The button below them comes last.
            expect(page.get_by_role("button", name="Download as CSV")).to_be_visible()
            told = page.get_by_role("heading", level=4).or_(page.get_by_test_id("stAlert"))
            expect(told).to_have_count(len(chosen))
            expect(page.get_by_text(re.compile("Traceback|unexpected error"))).to_have_count(0)

        def at_once(chosen):
            send(chosen)
            page.get_by_role("button", name=re.compile(r"Classify \d+ images")).click(
                timeout=EXPORTING
            )
            expect(page.get_by_text(re.compile("images? classified"))).to_be_visible(
                timeout=EXPORTING
            )
            expect(page.get_by_text("Traceback")).to_have_count(0)
            page.get_by_role("button", name="Delete").click()
            expect(page.get_by_text(re.compile("images? classified"))).to_have_count(0)

        def memory(looks, at_most=0):
            """Bytes that it holds; as soon as they are few enough, after all looks in any case."""
            for _ in range(looks):
                page.goto(f"{address}/test?run={trained_run.id}")  # lets go of what went before
                expect(title(page, "Test")).to_be_visible()
                page.goto("about:blank")
                page.wait_for_timeout(5_000)
                held = psutil.Process(process.pid).memory_info().rss
                if held <= at_most:
                    break
            return held

        as_cards(photos[:12])
        at_once(photos)
        before = memory(7)  # it tidies up every half minute
        for first in range(0, len(some), 12):
            as_cards(some[first : first + 12])
        at_once(files)
        most = psutil.Process(process.pid).memory_info().rss
        after = memory(24, at_most=1.10 * before)
        assert process.poll() is None
        print(*(f"{held / 2**20:.0f} MiB" for held in (before, most, after)))
        assert after <= 1.10 * before
