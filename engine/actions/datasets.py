"""What people do with datasets: prepare, inspect and extend them, decide about images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from engine.actions.log import LOCAL, logged
from engine.errors import DatasetError

if TYPE_CHECKING:
    from engine.data.curation import Decision
    from engine.recipe import DatasetSpec, Recipe

Skipped = list[tuple[str, str]]
"""(file name, why it was left out)."""


def prepare(spec: DatasetSpec, home: Path, who: str = LOCAL) -> None:
    """`engine.data.datasets.prepare`; a new one belongs to who asks."""
    from engine.data import datasets

    with logged(home, who, "prepare a dataset", dataset=spec.model_dump()):
        datasets.prepare(spec, home, who)


def cancel_prepare(spec: DatasetSpec, home: Path, who: str = LOCAL) -> None:
    """`engine.data.datasets.cancel`."""
    from engine.data import datasets

    owner = datasets.owner(spec, home)
    with logged(home, who, "cancel preparing a dataset", owner, dataset=spec.model_dump()):
        datasets.cancel(spec, home)


def forget(spec: DatasetSpec, home: Path, who: str = LOCAL) -> None:
    """`engine.data.datasets.forget`."""
    from engine.data import datasets

    owner = datasets.owner(spec, home)
    with logged(home, who, "delete a prepared dataset", owner, dataset=spec.model_dump()):
        datasets.forget(spec, home)


def keep_upload(
    home: Path,
    name: str,
    file: IO[bytes],
    progress: Callable[[int, int | None], None] | None = None,
    who: str = LOCAL,
) -> Path:
    """`engine.data.sources.uploads.keep_upload`, of a zip that can be trained on."""
    from engine.data.sources import archive, uploads

    with logged(home, who, "upload a zip", file=name):
        path = uploads.keep_upload(home, name, file, progress)
        try:
            archive.Archive(path).close()
        except DatasetError:
            uploads.forget_upload(home, path)
            raise
    return path


# -- decisions about images ------------------------------------------------------------------------


def decide(
    home: Path, spec: DatasetSpec, text: str, made: Sequence[Decision], who: str = LOCAL
) -> str:
    """`engine.data.curation.decide`."""
    from engine.data import curation, datasets

    owner, what = datasets.owner(spec, home), {"dataset": spec.model_dump(), "text": text}
    with logged(home, who, "decide about images", owner, **what) as line:
        line["overlay"] = found = curation.decide(home, spec, text, made)
    return found


def undo(
    home: Path, spec: DatasetSpec, number: int | None = None, again: bool = False, who: str = LOCAL
) -> str:
    """`engine.data.curation.undo`."""
    from engine.data import curation, datasets

    action = "redo a decision" if again else "undo a decision"
    owner, what = datasets.owner(spec, home), {"dataset": spec.model_dump(), "step": number}
    with logged(home, who, action, owner, **what) as line:
        line["overlay"] = found = curation.undo(home, spec, number, again)
    return found


def measure_decisions(spec: DatasetSpec, home: Path, recipe: Recipe, who: str = LOCAL) -> None:
    """`engine.inspection.payback.start`."""
    from engine.inspection import payback

    with logged(home, who, "measure decisions", dataset=spec.model_dump()):
        payback.start(spec, home, recipe)


def stop_measuring_decisions(
    spec: DatasetSpec, home: Path, recipe: Recipe, who: str = LOCAL
) -> None:
    """`engine.inspection.payback.cancel`."""
    from engine.inspection import payback

    with logged(home, who, "stop measuring decisions", dataset=spec.model_dump()):
        payback.cancel(spec, home, recipe)


def inspect(
    spec: DatasetSpec,
    home: Path,
    recipe: Recipe | None = None,
    again: bool = False,
    who: str = LOCAL,
) -> None:
    """`engine.inspection.inspection.start`, or `again`."""
    from engine.inspection import inspection

    with logged(home, who, "inspect a dataset", dataset=spec.model_dump()):
        (inspection.again if again else inspection.start)(spec, home, recipe)


def stop_inspection(
    spec: DatasetSpec, home: Path, recipe: Recipe | None = None, who: str = LOCAL
) -> None:
    """`engine.inspection.inspection.cancel`."""
    from engine.inspection import inspection

    with logged(home, who, "stop an inspection", dataset=spec.model_dump()):
        inspection.cancel(spec, home, recipe)


# -- datasets built here ---------------------------------------------------------------------------


def create_dataset(
    home: Path, name: str, base: DatasetSpec | None = None, who: str = LOCAL
) -> DatasetSpec:
    """`engine.data.sources.collection.create`, with the decisions about the base copied."""
    from engine.data import curation
    from engine.data.sources import collection

    plain = base and base.model_copy(update={"overlay": ""})
    with logged(home, who, "create a dataset", name=name):
        made = collection.create(home, name, plain, who)
        if base and base.overlay:
            # The images stay in their parts only if all of them are present.
            curation.adopt(home, made, base.overlay, f"Decisions copied from {base.title}")
    return made


def add_images(
    home: Path,
    name: str,
    label: str,
    files: Iterable[tuple[str, bytes | IO[bytes]]],
    progress: Callable[[int, int | None], None] | None = None,
    *,
    who: str = LOCAL,
) -> tuple[int, Skipped]:
    """`engine.data.additions.add`."""
    from engine.data import additions
    from engine.data.sources import collection

    what = {"name": name, "label": label}
    with logged(home, who, "add images", collection.owner(home, name), **what) as line:
        found = additions.add(home, name, label, files, progress)
        line["images"] = found[0]
    return found


def add_zip(
    home: Path,
    name: str,
    zip: str | Path | IO[bytes],
    progress: Callable[[int, int | None], None] | None = None,
    who: str = LOCAL,
) -> tuple[int, Skipped]:
    """`engine.data.additions.add_zip`, of a path or of an upload."""
    from engine.data import additions
    from engine.data.sources import collection, uploads

    with logged(home, who, "add images", collection.owner(home, name), name=name) as line:
        if isinstance(zip, str | Path):
            found = additions.add_zip(home, name, zip, progress)
        else:
            with uploads.passing_upload(home, zip) as path:
                found = additions.add_zip(home, name, path, progress)
        line["images"] = found[0]
    return found


def undo_addition(home: Path, name: str, expected: int | None = None, who: str = LOCAL) -> int:
    """`engine.data.sources.collection.undo`."""
    from engine.data.sources import collection

    with logged(home, who, "undo an addition", collection.owner(home, name), name=name) as line:
        line["images"] = count = collection.undo(home, name, expected)
    return count
