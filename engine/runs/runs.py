"""Runs: one folder for each execution of a recipe, readable while it grows.

recipe.yaml         what was asked
status.json         where it stands; the worker's identity
environment.json    versions, device, git commit
events.jsonl        everything that happened
worker.log          what the worker printed
architecture.json   the network's blocks and preprocessing
split.json          which images (by content hash) were in which part
examples/           a few test images with their true labels
final.keras         the model with the best weights, float32, pixels 0 to 255 in
inference.tflite    the same for LiteRT: probabilities, features, feature map
head.npz            the weights behind pooling, for explanations
manifest.json       the SHA-256 of these three (engine.runs.manifest)
evaluation.json     the figures on the untouched test part
reference.npz       what the model made of its images; thumbs.bin has their thumbnails
confidence.json     how sure it may be (engine.predict.confidence)
exports/            zips for other programs, each with its certificate (engine.exports.exports)
"""

import os
import re
import secrets
import time
from functools import cached_property
from pathlib import Path

from engine import home as homes
from engine.data import overlay
from engine.errors import DamagedFile, GraftError, RecipeError, RunError
from engine.host import processes
from engine.recipe import Recipe
from engine.runs import events, queue

STATUSES = (
    "queued", "starting", "running", "paused", "interrupted", "finished", "stopped", "failed",
)  # fmt: skip
ACTIVE = ("queued", "starting", "running")
RESUMABLE = ("paused", "interrupted", "failed")
"""What may be taken up again, from the last checkpoint or, if there is none, from the start."""
INTERRUPTED = (
    "the worker ended without a word: it was killed, or the host went down; resume it from its last "
    "checkpoint"
)
KILLED = "it was killed by a user; resume it from its last checkpoint"
ENDED_BY_HOST = (
    "the host asked the worker to end, as it does for a restart; resume it from its last checkpoint"
)
MODEL = ("final.keras", "inference.tflite", "head.npz")
"""The files of a run's model."""
NO_HEARTBEAT, NO_EVENT = 20, 1800
"""Seconds after which a worker counts as stuck: its heartbeat comes every two; between two events a
large network may be built or converted."""
_ID = re.compile(r"^[\w.-]{1,120}$")


class Run:
    """A run's folder, seen from outside. Every attribute reads the disk, so it is never stale."""

    def __init__(self, path):
        self.path = Path(path)
        self.id = self.path.name

    def __repr__(self):
        return f"Run({str(self.path)!r})"

    def __eq__(self, other):
        return isinstance(other, Run) and self.path == other.path

    def __hash__(self):
        return hash(self.path)

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe. Raises RunError if it can't be read."""
        try:
            return Recipe.from_yaml((self.path / "recipe.yaml").read_text())
        except (OSError, ValueError, RecipeError) as error:  # ValueError: not even text
            raise RunError(f"the recipe of run {self.id} cannot be read ({error})") from None

    @property
    def state(self) -> dict:
        """What status.json says, corrected for a worker that has died without a word.

        While it still has its place in the queue, the supervisor has yet to find out how it ended.
        If the file is damaged the run counts as failed, with a sentence that says so.
        """
        state = self._recorded_state()
        if state["status"] in ("starting", "running") and not processes.alive(state):
            # It may have ended properly between the two looks.
            state = self._recorded_state()
            if state["status"] in ("starting", "running") and not self._placed():
                state |= {"status": "interrupted", "error": INTERRUPTED}
        return state

    def _placed(self) -> bool:
        """Whether it has a place in the queue; a damaged queue has none (`jobs` says that it is)."""
        try:
            return queue.holder(self.path.parent.parent, self.id) is not None
        except GraftError:
            return False

    def _recorded_state(self) -> dict:
        path = self.path / "status.json"
        try:
            found = homes.read_json(path)
        except DamagedFile as error:
            return {"status": "failed", "error": str(error)}
        if isinstance(found, dict) and found.get("status") in STATUSES:
            return found
        why = "is missing" if found is None else "says nothing of a status"
        error = f"{path} {why}; python -m engine doctor says what to do"
        return {"status": "failed", "error": error}

    @property
    def status(self) -> str:
        """One of STATUSES."""
        return self.state["status"]

    @property
    def error(self) -> str | None:
        """One sentence if the run failed."""
        return self.state.get("error")

    @property
    def finished(self) -> bool:
        """Whether there is a model to use: true also for a run stopped with its best so far."""
        return self.status in ("finished", "stopped") and (self.path / "inference.tflite").exists()

    @property
    def created(self) -> float:
        """Unix seconds; 0 of a run that was deleted this moment."""
        created = self.state.get("created")
        try:
            return created or self.path.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    @property
    def started(self) -> float | None:
        """Unix seconds, or None before the worker began."""
        return self.state.get("started")

    @property
    def ended(self) -> float | None:
        """Unix seconds, or None; of a worker that died, the time of its last event."""
        state = self.state
        if state.get("ended") or state["status"] not in ("failed", "interrupted"):
            return state.get("ended")
        log = self.path / "events.jsonl"
        return log.stat().st_mtime if log.exists() else None

    @property
    def seconds(self) -> float | None:
        """Duration so far, or of the whole run, without pauses; None before the worker began."""
        state, started = self.state, self.started
        if started is None:
            return state.get("spent")
        return (state.get("spent") or 0) + (self.ended or time.time()) - started

    @property
    def eta(self) -> float | None:
        """Seconds to the end by the latest event that says so; None if none of the last does."""
        for event in reversed(events.last(self.path / "events.jsonl")):
            if event["event"] in ("batch", "epoch") and event.get("eta_seconds") is not None:
                return max(0.0, event["eta_seconds"] - (time.time() - event["t"]))
        return None

    @property
    def silent_seconds(self) -> float | None:
        """How long an active run's worker has given no sign of life, or has not come further; None
        while all is well. A suspended worker stops to touch its heartbeat; one that hangs writes no
        more events."""
        if self.status != "running":
            return None
        now, found = time.time(), []
        for name, longest in (("heartbeat", NO_HEARTBEAT), ("events.jsonl", NO_EVENT)):
            try:
                silent = now - (self.path / name).stat().st_mtime
            except FileNotFoundError:
                continue
            if silent > longest:
                found.append(silent)
        return max(found, default=None)

    @property
    def size(self) -> int:
        """Bytes of its folder."""
        return homes.folder_bytes(self.path)

    @property
    def classes(self) -> list[str]:
        """Class names in the order of the probabilities; empty before the data was read."""
        return (homes.read_json(self.path / "architecture.json") or {}).get("classes", [])

    @property
    def architecture(self) -> dict | None:
        """The network's blocks, parameter counts and preprocessing."""
        return homes.read_json(self.path / "architecture.json")

    @property
    def environment(self) -> dict:
        """Versions, device, git commit."""
        return homes.read_json(self.path / "environment.json", {})

    @property
    def evaluation(self) -> dict | None:
        """Figures on the test and validation parts; see `engine.predict.evaluation`."""
        return homes.read_json(self.path / "evaluation.json")

    @property
    def kept_stage(self) -> str | None:
        """Name of the stage whose weights the run kept."""
        return self.state.get("kept_stage")

    def events(self, offset: int = 0) -> tuple[list[dict], int]:
        """Events after a byte offset, and the offset for the next call."""
        return events.read(self.path / "events.jsonl", offset)

    def log_tail(self, lines: int = 40) -> str:
        """The last lines that the worker printed."""
        try:
            with open(self.path / "worker.log", "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 400 * lines))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def examples(self) -> list[dict]:
        """Test images kept with the run: dicts of path, label (the true one) and name."""
        rows = homes.read_json(self.path / "examples" / "examples.json", [])
        return [row | {"path": self.path / "examples" / row["file"]} for row in rows]

    def stages(self) -> list[dict]:
        """The `stage_end` events: one report for each stage that ended."""
        return [e for e in events.effective(self.events()[0]) if e["event"] == "stage_end"]

    @property
    def decisions(self) -> str:
        """What people had decided about single images of its dataset: "10 left out"; "" for nothing."""
        found = homes.read_json(self.path / overlay.FILE, {})
        return overlay.in_words(overlay.counts(found.get("decisions", [])))

    def summary(self) -> dict:
        """Plain data for `show --json`."""
        return {
            "id": self.id,
            "status": self.status,
            "error": self.error,
            "recipe": self.recipe.to_dict(),
            "recipe_hash": self.recipe.hash,
            "classes": self.classes,
            "decisions": self.decisions,
            "evaluation": self.evaluation,
            "kept_stage": self.kept_stage,
            "stages": self.stages(),
            "seconds": self.seconds,
            "created": self.created,
            "started": self.started,
            "ended": self.ended,
            "bytes": self.size,
            "environment": self.environment,
            "path": str(self.path),
        }

    def update(self, **changes) -> None:
        """Changes fields of status.json, aside and then in one step.

        What a damaged file said is lost, so it is begun anew.
        """
        path = self.path / "status.json"
        try:
            found = homes.read_json(path, {})
        except DamagedFile:
            found = {}
        homes.write_json(path, found | changes)


def create(recipe: Recipe, home: Path) -> Run:
    """Makes the folder of a new run, status queued.

    Raises:
        DatasetError: if the recipe names an overlay that is not on this host.
    """
    decisions = overlay.load(home, recipe.dataset.overlay) if recipe.dataset.overlay else None
    slug = re.sub(r"[^a-z0-9]+", "-", recipe.name.lower()).strip("-")[:40] or "run"
    identity = f"{time.strftime('%Y%m%d-%H%M%S')}-{slug}-{secrets.token_hex(2)}"
    path = Path(home) / "runs" / identity
    path.mkdir(parents=True)
    run = Run(path)
    run.update(status="queued", created=time.time(), recipe_hash=recipe.hash)
    if decisions:  # what the run is trained on goes with it
        homes.write_json(path / overlay.FILE, decisions)
    # Last: a folder with a recipe is a run, and is listed with a status from the first moment.
    with homes.replacing(path / "recipe.yaml") as file:
        file.write(recipe.to_yaml())
    return run


def list_runs(home: Path) -> list[Run]:
    """All runs, newest first. A folder that is no run is passed over."""
    folder = Path(home) / "runs"
    found = (
        [Run(p) for p in folder.iterdir() if (p / "recipe.yaml").exists()]
        if folder.exists()
        else []
    )
    return sorted(found, key=lambda run: (run.created, run.id), reverse=True)


def readable_runs(home: Path) -> tuple[list[Run], list[tuple[str, str]]]:
    """All runs whose recipe can be read, newest first, and the others.

    Returns:
        (runs, [(id, sentence)]).
    """
    whole, damaged = [], []
    for run in list_runs(home):
        try:
            run.recipe  # noqa: B018  kept by the Run, so that nobody meets the error later
            whole.append(run)
        except GraftError as error:
            damaged.append((run.id, str(error)))
    return whole, damaged


def get_run(home: Path, identity: str) -> Run:
    """One run by its id, or "latest" for the newest with a model. Raises RunError."""
    if identity == "latest":
        found = next((run for run in list_runs(home) if run.finished), None)
        if found is None:
            raise RunError("there is no finished run yet; train one first")
        return found
    path = Path(home) / "runs" / identity
    if not _ID.match(identity) or identity in (".", "..") or not (path / "recipe.yaml").exists():
        # The names that `engine.runs.trash` gives to what it keeps.
        if _ID.match(identity) and any((Path(home) / "trash").glob(f"*Z.{identity}")):
            raise RunError(
                f"run {identity} is in the trash; restore it there, or with: python -m engine restore "
                f"{identity}"
            )
        raise RunError(
            f"there is no run {identity!r} in {home}; list them with: python -m engine runs"
        )
    return Run(path)
