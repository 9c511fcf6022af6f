"""Which class a folder counts as: spelling is allowed for, likeness is offered, people decide."""

import pytest

from engine.errors import DatasetError
from engine.predict import class_folders

FLOWERS = ["daisy", "roses", "tulips", "sun flower"]


def one(name, classes=FLOWERS, chosen=None):
    [folder] = class_folders.match({name: 12}, classes, chosen)
    return folder


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("roses", "roses"),
        ("Roses", "roses"),
        ("ROSES ", "roses"),
        ("sun_flower", "sun flower"),
        ("Sun-Flower", "sun flower"),
    ],
)
def test_spelling_makes_no_other_class_and_is_said(name, label):
    folder = one(name)
    assert (folder.label, folder.near) == (label, "")
    told = class_folders.sentences([folder])
    assert told == (
        [] if name == label else [f"{name} counts as {label} (only the spelling differs)."]
    )


def test_accents_count_in_both_unicode_forms():
    for name, label in (("café", "cafe\u0301"), ("cafe\u0301", "café")):
        assert one(name, [label]).label == label
        assert one(name.upper(), [label]).label == label
        assert one("cafe", [label]).label == ""


@pytest.mark.parametrize(
    ("name", "classes", "near"),
    [
        ("rose", FLOWERS, "roses"),
        ("Tulip", FLOWERS, "tulips"),
        ("daisies", FLOWERS, "daisy"),
        ("box", ["cat", "boxes"], "boxes"),
        ("wolves", ["wolf"], "wolf"),
        ("sunflowers", FLOWERS, "sun flower"),
        ("dandylion", ["dandelion"], "dandelion"),
        ("car", ["cat"], ""),
        ("meadow", FLOWERS, ""),
        ("class 1", ["class 12", "class 2"], ""),  # another number is another class
        ("2024-05-01", ["2024-05-02"], ""),
        ("ROSE", ["rose", "Rose"], "rose"),  # which of the two is unclear
    ],
)
def test_what_only_looks_alike_is_offered_and_not_counted(name, classes, near):
    folder = one(name, classes)
    assert (folder.label, folder.near) == ("", near)
    [told] = class_folders.sentences([folder])
    assert "12 images were not counted." in told
    assert told.startswith(f"{name}: did you mean {near}? ") == bool(near)


def test_an_equal_name_wins_among_classes_that_differ_in_case():
    found = class_folders.match({"a": 1, "A": 2}, ["A", "a"])
    assert {folder.name: folder.label for folder in found} == {"a": "a", "A": "A"}


def test_what_a_person_decides_counts():
    assert one("rose", chosen={"rose": "roses"}).label == "roses"
    assert one("roses", chosen={"roses": ""}).label == ""
    told = class_folders.sentences([one("rose", chosen={"rose": "roses"})])
    assert told == ["rose counts as roses (your choice)."]


def test_many_folders_fold():
    found = class_folders.match({f"meadow {i}": 2 for i in range(1000)}, FLOWERS)
    [told] = class_folders.sentences(found)
    assert "and 995 more" in told and "2,000 images were not counted." in told
    found = class_folders.match({f"rose{'s' * i}": 1 for i in range(2, 40)}, FLOWERS)
    assert len(class_folders.sentences(found)) <= class_folders.OFFERED + 1


def test_choices_on_the_command_line_may_hold_equals_signs():
    def chosen(text, folders=("rose", "a=b", "a"), classes=("roses", "x=y", "b=x=y")):
        return class_folders.chosen([text], folders, classes)

    assert chosen("rose=roses") == {"rose": "roses"}
    assert chosen("a=b=roses") == {"a=b": "roses"}
    assert chosen("rose=x=y") == {"rose": "x=y"}
    assert chosen("café=roses", ["cafe\u0301"]) == {"cafe\u0301": "roses"}
    for text, sentence in [
        ("rose", "write FOLDER=CLASS"),
        ("rose=tulips", "does not end with a class of this run; its classes are roses, x=y"),
        ("tulip=roses", "does not start with a folder of the images; there are a, a=b and rose"),
        ("a=b=x=y", "can mean 'a' as 'b=x=y' or 'a=b' as 'x=y'"),
    ]:
        with pytest.raises(DatasetError, match=sentence):
            chosen(text)
