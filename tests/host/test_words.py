"""How numbers are written for people."""

import pytest

from engine.host import words


@pytest.mark.parametrize(
    "seconds, text",
    [
        (None, "–"), (0.44, "0.4 s"), (1.97, "2 s"), (8.4, "8 s"), (59.6, "1 min 00 s"),
        (125, "2 min 05 s"), (4320, "1 h 12 min"), (-3, "0.0 s"),
    ],
)  # fmt: skip
def test_durations(seconds, text):
    assert words.duration(seconds) == text


def test_counts_are_singular_for_one_and_grouped_for_thousands():
    assert words.plural(1, "image") == "1 image"
    assert words.plural(0, "image") == "0 images"
    assert words.plural(3670, "image") == "3,670 images"
    assert words.plural(2, "class", "classes") == "2 classes"


def test_shares_memory_and_large_numbers():
    assert words.percent(0.9166) == "91.7%" and words.percent(None) == "–"
    assert words.percent(0.5, 0) == "50%"
    assert words.memory(812) == "812 MiB" and words.memory(2458) == "2.4 GiB"
    assert words.short(98_000) == "98 k" and words.short(2_400_000) == "2.4 M"


def test_long_lists_fold_and_never_hide_a_single_name():
    names = [f"class {i}" for i in range(1000)]
    assert words.listed([]) == "" and words.listed(["a"]) == "a"
    assert words.listed(["a", "b"], last="or") == "a or b"
    assert words.listed(names[:6]).count("class") == 6
    assert words.listed(names, 2) == "class 0, class 1 and 998 more"
    assert len(words.listed(["x" * 9000] * 9)) < 1200


def test_names_are_made_safe_to_print():
    assert words.shown("d\udce9j\u202e.png") == "d\\udce9j\\u202e.png"
    assert words.listed(["\udce9"]).encode()
