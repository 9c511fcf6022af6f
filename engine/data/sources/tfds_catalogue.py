"""Image classification datasets of TensorFlow Datasets to start with: contents, size and licence.

The numbers of images and classes are those of the catalogue
(https://www.tensorflow.org/datasets/catalog/overview). The download size is the sum of the file
sizes in the installed package; a test compares them. The package states no licences, so one is
given only if the dataset's authors or the catalogue publish it (`licence_from`). The name of any
other image classification dataset works, too.
"""

from dataclasses import dataclass

NOT_STATED = "not stated"
"""Licence of a dataset for which none was found; ask its authors before a use that needs one."""
_PAGES = "https://www.tensorflow.org/datasets/catalog/"


@dataclass(frozen=True)
class Entry:
    """One dataset.

    Attributes:
        name: in TensorFlow Datasets, with a configuration if the default one is large.
        what: what the images show.
        images, classes: number of them in all parts together.
        download_mib: MiB (2**20 bytes) to download.
        licence: as published, or "not stated".
        licence_from: where it is published; "" if it is not stated.
    """

    name: str
    what: str
    images: int
    classes: int
    download_mib: float
    licence: str = NOT_STATED
    licence_from: str = ""

    @property
    def url(self) -> str:
        """Its page in the catalogue."""
        return _PAGES + self.name.split("/")[0]

    @property
    def text(self) -> str:
        """One line for people, without the name."""
        return (
            f"{self.images:,} {self.what}, {self.classes} classes, {self.download_mib:,.0f} MiB, "
            f"licence {self.licence}"
        )


CATALOGUE = (
    Entry("tf_flowers", "photos of flowers", 3_670, 5, 218.21, "CC BY",
          "https://www.tensorflow.org/tutorials/load_data/images"),
    Entry("beans", "photos of bean leaves, healthy or ill", 1_295, 3, 171.69, "MIT",
          "https://github.com/AI-Lab-Makerere/ibean/blob/master/LICENSE"),
    Entry("cats_vs_dogs", "photos of cats and dogs", 23_262, 2, 786.67),
    Entry("oxford_flowers102", "photos of flowers", 8_189, 102, 328.90),
    Entry("oxford_iiit_pet", "photos of breeds of cats and dogs", 7_349, 37, 773.52, "CC BY-SA 4.0",
          "https://www.robots.ox.ac.uk/~vgg/data/pets/"),
    Entry("stanford_dogs", "photos of breeds of dogs", 20_580, 120, 778.12),
    Entry("rock_paper_scissors", "rendered hands in three poses", 2_892, 3, 219.53, "CC BY 2.0",
          "https://laurencemoroney.com/datasets.html"),
    Entry("horses_or_humans", "rendered horses and humans", 1_283, 2, 153.59, "CC BY 2.0",
          "https://laurencemoroney.com/datasets.html"),
    Entry("citrus_leaves", "photos of citrus leaves, healthy or ill", 594, 4, 63.87, "CC BY 4.0",
          _PAGES + "citrus_leaves"),
    Entry("deep_weeds", "photos of weeds in the field", 17_509, 9, 469.32, "CC BY 4.0",
          "https://github.com/AlexOlsen/DeepWeeds"),
    Entry("cassava", "photos of cassava leaves, healthy or ill", 9_430, 5, 1_291.37),
    Entry("plant_village", "photos of leaves, healthy or ill", 54_303, 38, 827.82),
    Entry("eurosat", "satellite images of land use, 64 px", 27_000, 10, 89.91, "MIT",
          "https://zenodo.org/records/7711810"),
    Entry("uc_merced", "aerial images of land use", 2_100, 21, 317.07,
          "public domain imagery (USGS)", _PAGES + "uc_merced"),
    Entry("dtd", "photos of textures", 5_640, 47, 596.28, "for research purposes",
          _PAGES + "dtd"),
    Entry("food101", "photos of dishes", 101_000, 101, 4_764.82),
    Entry("imagenette/320px-v2", "photos of ten kinds of objects, 320 px", 13_394, 10, 325.84),
    Entry("imagenette/160px-v2", "photos of ten kinds of objects, 160 px", 13_394, 10, 94.42),
    Entry("malaria", "microscope images of blood cells", 27_558, 2, 337.08),
    Entry("colorectal_histology", "microscope images of tissue, 150 px", 5_000, 8, 246.14,
          "CC BY 4.0", "https://zenodo.org/records/53169"),
    Entry("mnist", "handwritten digits, 28 px", 70_000, 10, 11.06),
    Entry("fashion_mnist", "small pictures of clothes, 28 px", 70_000, 10, 29.45, "MIT",
          "https://github.com/zalandoresearch/fashion-mnist/blob/master/LICENSE"),
    Entry("kmnist", "handwritten Japanese characters, 28 px", 70_000, 10, 20.26, "CC BY-SA 4.0",
          "https://github.com/rois-codh/kmnist"),
    Entry("cmaterdb", "handwritten Bangla digits, 32 px", 6_000, 10, 0.56),
    Entry("cifar10", "photos of animals and vehicles, 32 px", 60_000, 10, 162.17),
    Entry("cifar100", "photos of many kinds of objects, 32 px", 60_000, 100, 160.71),
)  # fmt: skip
"""Good ones to start with come first."""

SUGGESTIONS = {entry.name: entry.text for entry in CATALOGUE}
"""{name: one line about it}."""
