"""What an inspection without a backbone measures, keeps and shows; stopped, killed, continued."""

import io
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image, ImageFilter

from engine.data import datasets, prepare_worker
from engine.host import processes
from engine.images import thumbnails
from engine.images.thumbnails import Thumbnails
from engine.inspection import findings, inspection, worker
from engine.recipe import DatasetSpec, SplitSpec
from tests.support.pictures import encode, picture


@pytest.fixture
def folder_spec(class_folder, own_home):
    spec = DatasetSpec(source="folder", path=str(class_folder))
    prepare_worker.ingest(spec, own_home)
    return spec


def test_an_inspection_needs_a_prepared_dataset(own_home, class_folder):
    from engine.errors import DatasetError

    spec = DatasetSpec(source="folder", path=str(class_folder))
    assert inspection.state(spec, own_home)["state"] == "missing"
    assert inspection.open_inspection(spec, own_home) is None
    with pytest.raises(DatasetError, match="not prepared"):
        inspection.start(spec, own_home)


def test_measures_say_what_a_person_sees(own_home, tmp_path):
    blocks = np.random.default_rng(1).integers(0, 255, (12, 16, 3), np.uint8)
    usual = Image.fromarray(blocks).resize((640, 480), Image.Resampling.NEAREST)
    made = {
        "usual": usual,
        "half": usual.resize((320, 240), Image.Resampling.LANCZOS),
        "blurred": usual.filter(ImageFilter.GaussianBlur(9)),
        "dark": usual.point(lambda v: v // 20),
        "white": Image.new("RGB", (320, 240), "white"),
    }
    for name, image in made.items():
        for label in ("a", "b"):
            path = tmp_path / "pictures" / label / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(image))
    spec = DatasetSpec(source="folder", path=str(tmp_path / "pictures"))
    dataset = prepare_worker.ingest(spec, own_home)
    worker.inspect(spec, own_home)
    pixels = inspection.open_inspection(spec, own_home).pixels
    row = {name.split("/")[1].split(".")[0]: i for i, name in enumerate(dataset.names)}

    def value(measure, name):
        return float(pixels[measure][row[name]])

    luma = np.asarray(usual.convert("L"), float)
    assert value("brightness", "usual") == pytest.approx(luma.mean(), abs=0.01)
    assert value("contrast", "usual") == pytest.approx(luma.std(), abs=0.01)
    assert value("brightness", "white") == 255 and value("contrast", "white") == 0
    assert (
        value("entropy", "white") == 0 < value("entropy", "dark") < value("entropy", "usual") <= 8
    )
    assert value("sharpness", "blurred") < value("sharpness", "usual") / 4
    # Another size of the same picture is as sharp.
    assert value("sharpness", "half") == pytest.approx(value("sharpness", "usual"), rel=0.3)
    # Both sizes are one group, as are the copies of each in the other class.
    assert dataset.copies[row["half"]] == dataset.copies[row["usual"]] >= 0


def test_an_interrupted_inspection_goes_on_where_it_was(folder_spec, own_home, monkeypatch):
    monkeypatch.setattr(worker, "BATCH", 8)

    def stop(text, done=0, total=None):
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.inspect(folder_spec, own_home, report=stop)
    assert inspection.open_inspection(folder_spec, own_home) is None
    begun = []
    worker.inspect(
        folder_spec, own_home, report=lambda text, done, total: begun.append((text, done))
    )
    assert begun[0] == (worker.LOOKING, 16)  # whole batches only

    whole = inspection.open_inspection(folder_spec, own_home)
    folder = thumbnails.folder(own_home, whole.source_fingerprint)
    dataset = datasets.open_dataset(folder_spec, own_home)
    assert Thumbnails(own_home, dataset.source_fingerprint).count() == len(dataset)
    shutil.rmtree(folder)
    worker.inspect(folder_spec, own_home)
    again = inspection.open_inspection(folder_spec, own_home)
    for name, values in whole.pixels.items():
        np.testing.assert_array_equal(values, again.pixels[name], name)


def test_a_cancelled_inspection_leaves_no_process_and_can_be_started_again(folder_spec, own_home):
    inspection.start(folder_spec, own_home)
    pid = inspection.pid(folder_spec, own_home)
    inspection.cancel(folder_spec, own_home)
    assert processes.born(pid) is None
    assert inspection.state(folder_spec, own_home)["state"] in ("missing", "done")
    inspection.start(folder_spec, own_home)
    assert inspection.wait(folder_spec, own_home)["state"] == "done"


def test_a_killed_inspection_says_so(folder_spec, own_home):
    inspection.start(folder_spec, own_home)
    processes.end(processes.identity(inspection.pid(folder_spec, own_home)))
    now = inspection.state(folder_spec, own_home)
    assert now["state"] == "done" or (now["state"] == "failed" and "start it again" in now["error"])


def test_images_that_went_away_are_passed_over(folder_spec, own_home, class_folder):
    (class_folder / "red" / "03.jpg").unlink()
    worker.inspect(folder_spec, own_home)
    dataset = datasets.open_dataset(folder_spec, own_home)
    seen = inspection.open_inspection(folder_spec, own_home)
    gone = dataset.names.index("red/03.jpg")
    assert np.isnan(seen.pixels["brightness"][gone]) and seen.report["pixels"]["lost"] == 1
    for finding in findings.find(dataset, seen, dataset.split(SplitSpec())):
        if finding.kind != "tiny_class":  # about whole classes
            assert (gone in finding.indices) == (finding.kind == "lost")


def test_results_follow_images_whose_files_were_renamed(folder_spec, own_home, class_folder):
    worker.inspect(folder_spec, own_home)
    before = datasets.open_dataset(folder_spec, own_home)
    measured = inspection.open_inspection(folder_spec, own_home).pixels["brightness"]
    brightness = dict(zip(before.contents.tolist(), measured.tolist(), strict=True))
    for number, path in enumerate(sorted(class_folder.glob("*/*.jpg"), reverse=True)):
        path.rename(path.with_name(f"new-{number:03d}.jpg"))
    after = prepare_worker.ingest(folder_spec, own_home)
    assert (
        after.fingerprint == before.fingerprint
        and after.contents.tolist() != before.contents.tolist()
    )
    seen = inspection.open_inspection(folder_spec, own_home)
    assert seen.pixels["brightness"].tolist() == [brightness[c] for c in after.contents.tolist()]


def test_odd_sizes_uneven_classes_and_empty_images_are_named(own_home, tmp_path):
    root = tmp_path / "pictures"
    for label, count in (("many", 130), ("some", 13)):
        (root / label).mkdir(parents=True)
        for i in range(count):
            size = (400, 60) if (label, i) == ("some", 3) else (64, 48)
            picture(*size, seed=i + 1000 * (label == "some")).save(root / label / f"{i:03d}.png")
    Image.new("RGB", (64, 48), (120, 130, 110)).save(root / "many" / "grey.png")
    spec = DatasetSpec(source="folder", path=str(root))
    dataset = prepare_worker.ingest(spec, own_home)
    worker.inspect(spec, own_home)
    seen = inspection.open_inspection(spec, own_home)
    found = {f.kind: f for f in findings.find(dataset, seen, None)}
    assert [dataset.names[i] for i in found["odd_size"].indices] == ["some/003.png"]
    assert [dataset.names[i] for i in found["low_information"].indices] == ["many/grey.png"]
    assert "131 images of many" in found["imbalance"].title
    assert {"exact_duplicates", "near_duplicates", "leakage", "mislabelled"}.isdisjoint(found)


def test_thumbnails_are_small_kept_and_shared(folder_spec, own_home):
    dataset = datasets.open_dataset(folder_spec, own_home)
    store, made = Thumbnails(own_home, dataset.source_fingerprint), []
    threads = [
        threading.Thread(target=lambda: made.append([store.get(dataset, i) for i in range(36)]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8 and all(each == made[0] for each in made)
    for data in made[0]:
        assert max(Image.open(io.BytesIO(data)).size) <= thumbnails.SIDE
    # Kept: the files are not needed any more.
    shutil.rmtree(folder_spec.path)
    assert Thumbnails(own_home, dataset.source_fingerprint).get(dataset, 5) == made[0][5]


def test_pages_can_open_an_inspection_without_heavy_libraries():
    code = (
        "import sys; from engine.inspection import inspection, findings; "
        "from engine.images import thumbnails; "
        "sys.exit(', '.join({'tensorflow', 'keras', 'sklearn', 'scipy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
