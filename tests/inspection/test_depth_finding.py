"""The finding about images of more than 8 bits, and its warning if their bits differ."""

import numpy as np
import pytest
from PIL import Image

from engine.data import prepare_worker
from engine.inspection import findings, inspection, worker
from engine.recipe import DatasetSpec


def found(root, home, largest):
    """The finding, and the dataset, of grey 16-bit images; {class: largest value of each}."""
    for label, values in largest.items():
        (root / label).mkdir(parents=True)
        for i, most in enumerate(values):
            deep = np.random.default_rng(i).integers(0, most + 1, (64, 64))
            Image.fromarray(deep.astype(np.uint16)).save(root / label / f"{i}.png")
    spec = DatasetSpec(source="folder", path=str(root))
    dataset = prepare_worker.ingest(spec, home)
    worker.inspect(spec, home)
    seen = findings.find(dataset, inspection.open_inspection(spec, home), None)
    kinds = {finding.kind: finding for finding in seen}
    assert "too_dark" not in kinds
    return kinds.get("depth"), dataset


@pytest.mark.parametrize(
    ("largest", "severity", "title"),
    [
        ({"cat": [4000] * 6, "dog": [3000] * 6}, "low", "scaled by 12 bits (12)"),
        ({"cat": [4000, 900] * 3, "dog": [900, 4000] * 3}, "medium", "10 bits (6) and 12 bits (6)"),
        ({"cat": [4000] * 6, "dog": [900] * 6}, "high", "different bits: cat 12 and dog 10"),
    ],
)
def test_bits_of_16_bit_files_are_said(own_home, tmp_path, largest, severity, title):
    finding, dataset = found(tmp_path / "deep", own_home, largest)
    assert (finding.severity, finding.count) == (severity, 12) and title in finding.title
    assert dataset.bits.tolist() == [
        {4000: 12, 3000: 12, 900: 10}[most] for values in largest.values() for most in values
    ]


def test_files_that_use_all_their_bits_are_no_finding(own_home, tmp_path):
    finding, dataset = found(
        tmp_path / "deep", own_home, {"cat": [60_000] * 3, "dog": [65_535] * 3}
    )
    assert finding is None and set(dataset.bits.tolist()) == {16}
