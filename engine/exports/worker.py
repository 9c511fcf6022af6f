"""Exports a run's model and certifies the export.

Heavy: imports TensorFlow. `engine.host.background_worker` calls `measure` in a separate process;
pages and commands start one with `engine.exports.background.begin`. `engine.exports.exports`
describes what an export consists of.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from hashlib import sha256
from pathlib import Path

import filelock

from engine.exports import card, certify, convert, formats, papers
from engine.exports.exports import check, name_of, work_folder
from engine.host import manifest
from engine.host.background import Report
from engine.runs import files, runs


def measure(run: str, format: str, precision: str, home: Path, report: Report) -> str:
    """The work of `engine.exports.background.begin`.

    Args:
        run: path of the run's folder.
        format, precision, report: see `export`.
        home: Graft's home.

    Returns:
        The zip's name.
    """
    report("Starting TensorFlow")
    found = export(runs.Run(run), format, precision, home, report)
    return found["path"].name


def export(
    run: runs.Run,
    format: str,
    precision: str = "float32",
    home: Path | None = None,
    report: Report | None = None,
) -> dict:
    """Exports a run and certifies the export, in this process.

    Args:
        run: a finished run.
        format: a key of `engine.exports.formats.FORMATS`.
        precision: one of the format's precisions.
        home: Graft's home, where the run's dataset is looked up; by default the run's own home.
        report: called with (text, done, total); may raise to stop.

    Returns:
        A dict: `path` of the zip, its size in `bytes`, and its `certificate` (see
        `engine.exports.certify`). Here the certificate also holds `float16`
        (`engine.exports.half.Stored` as a dict, None for other precisions) and `files` (the SHA-256
        of each of the model's files). Use the export only if the certificate's `agrees` is true.

    Raises:
        GraftError: if the run cannot be exported this way, or if the export cannot be loaded.
    """
    check(run, format, precision)
    home = home or run.home
    report = report or (lambda *_: None)
    folder, work = run.path / files.EXPORTS, work_folder(run, format, precision)
    content = work / "content"
    folder.mkdir(exist_ok=True)
    # One export at a time: two would distort each other's measured speed.
    with filelock.FileLock(folder / ".lock"):
        shutil.rmtree(work, ignore_errors=True)  # from an export that was killed
        content.mkdir(parents=True)
        try:
            pictures = certify.prepare(run, home, work, report)
            report("Converting the model")
            fitted_on, half = convert.write(
                run, format, precision, content, pictures.pixels, report
            )
            papers.write(run, format, content)
            _pack(content, pictures.zip)
            report("Checking the export in a separate process", 0, len(pictures.pixels))
            certificate = certify.certify(run, format, precision, pictures, fitted_on, report)
            certificate["float16"] = half
            certificate["files"] = _digests(content, formats.FORMATS[format].model)
            with zipfile.ZipFile(pictures.zip, "a", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("MODEL_CARD.md", card.model_card(run, home, certificate))
                archive.writestr("certificate.json", json.dumps(certificate, indent=1) + "\n")
            return _keep(pictures.zip, folder, name_of(run, format, precision), certificate)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _pack(folder: Path, path: Path) -> None:
    """Zips all files of a folder."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))


def _digests(folder: Path, model: str) -> dict[str, str]:
    """The SHA-256 of each of the model's files, which ties a certificate to them."""
    root = folder / model
    parts = sorted(f for f in root.rglob("*") if f.is_file()) if root.is_dir() else [root]
    return {str(f.relative_to(folder)): sha256(f.read_bytes()).hexdigest() for f in parts}


def _keep(made: Path, folder: Path, name: str, certificate: dict) -> dict:
    """Moves a finished zip to its name in one step and deletes the one with the other verdict."""
    verdicts = {True: f"{name}.zip", False: f"{name}-DISAGREES.zip"}
    path = folder / verdicts[certificate["agrees"]]
    with open(made, "rb+") as file:
        os.fsync(file.fileno())
    names = (f"{folder.name}/{each}" for each in verdicts.values())
    with manifest.rewriting(folder.parent / files.MANIFEST, *names):
        os.replace(made, path)
        (folder / verdicts[not certificate["agrees"]]).unlink(missing_ok=True)
    return {"path": path, "bytes": path.stat().st_size, "certificate": certificate}
