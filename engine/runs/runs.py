"""Runs: a folder for each execution of a recipe, readable while it grows. Light.

`engine.runs.files` names the files in it.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from engine import home as homes
from engine import roots
from engine.accounts.roles import LOCAL
from engine.data import overlay
from engine.errors import DamagedFile, GraftError, RecipeError, RunError
from engine.host import manifest, processes
from engine.recipe import Recipe
from engine.runs import events, files, queue

STATUSES = (
    "queued", "starting", "running", "paused", "interrupted", "finished", "stopped", "failed",
)  # fmt: skip
ACTIVE = ("queued", "starting", "running")
RESUMABLE = ("paused", "interrupted", "failed")
"""Statuses that can be resumed, from the last checkpoint or, if there is none, from the start."""
INTERRUPTED = (
    "the worker stopped unexpectedly: it was killed, or the host went down; resume the run from "
    "its last checkpoint"
)
KILLED = "it was killed by a user; resume it from its last checkpoint"
ENDED_BY_HOST = (
    "the host asked the worker to end, as it does for a restart; resume it from its last checkpoint"
)
MODEL = (files.KERAS, files.LITERT, files.HEAD)
"""The files of a run's model."""
NO_HEARTBEAT, NO_EVENT = 20, 1800
"""Seconds after which a worker counts as stuck. Its heartbeat comes every 2 s; between two events,
building or converting a large network takes long."""
_ID = re.compile(r"^[\w.-]{1,120}$")


@lru_cache(maxsize=8)
def _evaluation(path: Path, changed: int, size: int) -> dict | None:
    """The content of evaluation.json, read once for each state of the file."""
    return homes.read_json(path)


class Run:
    """A run's folder, seen from outside. Every attribute reads the disk, so it is never stale.

    Attributes:
        path: its folder.
        id: the folder's name.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.id = self.path.name

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    @property
    def home(self) -> Path:
        """Graft's home that it is in."""
        return self.path.parent.parent

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe. Raises RunError if it cannot be read."""
        try:
            return Recipe.from_yaml(self.checked(files.RECIPE).read_text(encoding="utf-8"))
        except DamagedFile as error:
            raise RunError(f"the recipe of run {self.id} cannot be read: {error}") from None
        except (OSError, ValueError, RecipeError) as error:  # ValueError: not even text
            raise RunError(f"the recipe of run {self.id} cannot be read ({error})") from None

    def checked(self, name: str) -> Path:
        """The path of one of its files. Raises DamagedFile if it was recorded at the run's end, and
        has changed since or is missing."""
        manifest.check(self.path / files.MANIFEST, name)
        return self.path / name

    @property
    def state(self) -> dict:
        """The content of status.json, corrected for a worker that stopped unexpectedly.

        While the run still has its place in the queue, the supervisor has yet to find out how it
        ended. If the file is damaged, the run counts as failed, with a sentence that says so.
        """
        state = self._recorded_state()
        if state["status"] in ("starting", "running") and not processes.alive(state):
            # It may have ended properly since.
            state = self._recorded_state()
            if state["status"] in ("starting", "running") and not self._placed():
                state |= {"status": "interrupted", "error": INTERRUPTED}
        return state

    @property
    def being_made(self) -> bool:
        """Whether the process that creates it still lives and has yet to put it into the queue."""
        return processes.alive(self._recorded_state().get("creator") or {})

    def _placed(self) -> bool:
        """Whether it has a device; False if the queue is damaged, which `jobs` reports."""
        try:
            return queue.holder(self.home, self.id) is not None
        except GraftError:
            return False

    def _recorded_state(self) -> dict:
        path = self.path / files.STATUS
        try:
            found = homes.read_json(path)
        except DamagedFile as error:
            return {"status": "failed", "error": str(error)}
        if isinstance(found, dict) and found.get("status") in STATUSES:
            return found
        why = f"{path} {'is missing' if found is None else 'has no status'}"
        return {"status": "failed", "error": f"{why}; python -m engine doctor says what to do"}

    @property
    def status(self) -> str:
        """One of STATUSES."""
        return self.state["status"]

    @property
    def owner(self) -> str:
        """Who created it: a user's name, or `roles.LOCAL`, as for runs of before accounts."""
        return self.state.get("owner") or LOCAL

    @property
    def error(self) -> str | None:
        """One sentence if something went wrong; else None."""
        return self.state.get("error")

    @property
    def finished(self) -> bool:
        """Whether it has a model, also if it was stopped; one that was lost is said when used."""
        has = manifest.has(self.path / files.MANIFEST, files.LITERT)
        return has and self.status in ("finished", "stopped")

    @property
    def created(self) -> float:
        """Unix seconds; 0 if the run was just deleted."""
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
        """Unix seconds, or None; for a worker that died, the time of its last event."""
        state = self.state
        if state.get("ended") or state["status"] not in ("failed", "interrupted"):
            return state.get("ended")
        return self.last_event

    @property
    def last_event(self) -> float | None:
        """Unix seconds of the last event; None before the first."""
        log = self.path / files.EVENTS
        return log.stat().st_mtime if log.exists() else None

    @property
    def seconds(self) -> float | None:
        """Duration so far or in total, without pauses; None before the worker began."""
        state, started = self.state, self.started
        if started is None:
            return state.get("spent")
        return (state.get("spent") or 0) + (self.ended or time.time()) - started

    @property
    def asked(self) -> str | None:
        """ "stop" or "pause" if somebody asked a run in progress for it and it has not done so yet.

        If both were asked for, the worker stops.
        """
        if self.status not in ("starting", "running"):
            return None
        return next((w for w in (files.STOP, files.PAUSE) if (self.path / w).exists()), None)

    @property
    def shown_status(self) -> str:
        """The status for people: "stopping" or "pausing" from the moment when somebody asked."""
        asked = self.asked
        return {"stop": "stopping", "pause": "pausing"}[asked] if asked else self.status

    @property
    def silent_seconds(self) -> float | None:
        """Seconds for which a running worker gave no sign of life or made no progress.

        None while all is well. A suspended worker stops touching its heartbeat; one that hangs
        writes no more events.
        """
        if self.status != "running":
            return None
        now, found = time.time(), []
        for name, longest in ((files.HEARTBEAT, NO_HEARTBEAT), (files.EVENTS, NO_EVENT)):
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
        """Class names in the order of the probabilities; empty before the data is read."""
        return (self.architecture or {}).get("classes", [])

    @property
    def architecture(self) -> dict | None:
        """The network's blocks, parameter counts and preprocessing."""
        return homes.read_json(self.checked(files.ARCHITECTURE))

    @property
    def environment(self) -> dict:
        """Versions, device, git commit."""
        return homes.read_json(self.checked(files.ENVIRONMENT), {})

    @property
    def evaluation(self) -> dict | None:
        """Figures on the test and validation images; see `engine.predict.evaluation`. Kept in
        memory, not to be changed: with 1,000 classes, reading them takes half a second."""
        path = self.checked(files.EVALUATION)
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
        return _evaluation(path, found.st_mtime_ns, found.st_size)

    @property
    def kept_stage(self) -> str | None:
        """Name of the stage whose weights the run kept."""
        return self.state.get("kept_stage")

    def events(self, offset: int = 0) -> tuple[list[dict], int]:
        """Events after a byte offset, and the offset for the next call."""
        return events.read(self.checked(files.EVENTS), offset)

    def log_tail(self, lines: int = 40) -> str:
        """The last `lines` lines that the worker printed."""
        try:
            with open(self.path / files.LOG, "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 400 * lines))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def examples(self) -> list[dict]:
        """Test images kept with the run: dicts of path, label (the true one) and name."""
        rows = homes.read_json(self.checked(f"{files.EXAMPLES}/{files.EXAMPLES_LIST}"), [])
        found = [row | {"path": self.checked(f"{files.EXAMPLES}/{row['file']}")} for row in rows]
        return [row for row in found if row["path"].exists()]  # the doctor moves damaged ones away

    def stages(self) -> list[dict]:
        """The `stage_end` events, one for each stage that ended."""
        return [e for e in events.effective(self.events()[0]) if e["event"] == "stage_end"]

    @property
    def decisions(self) -> str:
        """The decisions about single images of its dataset: "10 left out"; "" for none."""
        found = homes.read_json(self.checked(overlay.FILE), {})
        return overlay.in_words(overlay.counts(found.get("decisions", [])))

    def summary(self) -> dict:
        """Plain data for `show --json`."""
        return {
            "id": self.id,
            "status": self.status,
            "owner": self.owner,
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

    def update(self, **changes: Any) -> None:
        """Changes fields of status.json in one step; a damaged file is replaced."""
        path = self.path / files.STATUS
        try:
            found = homes.read_json(path, {})
        except DamagedFile:
            found = {}
        homes.write_json(path, found | changes)


def create(recipe: Recipe, home: Path, owner: str = LOCAL) -> Run:
    """Creates the folder of a new run, status queued.

    Raises:
        DatasetError: if the recipe names an overlay that is not on this host.
    """
    decisions = overlay.load(home, recipe.dataset.overlay) if recipe.dataset.overlay else None
    slug = re.sub(r"[^a-z0-9]+", "-", recipe.name.lower()).strip("-")[:40] or "run"
    identity = f"{time.strftime('%Y%m%d-%H%M%S')}-{slug}-{secrets.token_hex(2)}"
    run = at(home, identity)
    run.path.mkdir(parents=True)
    # While the creator lives, only it puts the run into the queue; `jobs.start` clears the field.
    who = processes.identity()
    reads = roots.recorded()  # for its worker, which any process may start
    known = {"owner": owner, "recipe_hash": recipe.hash, "reads": reads}
    with homes.whole(run.path):
        run.update(status="queued", created=time.time(), creator=who, **known)
        if decisions:  # the run keeps what it is trained on
            homes.write_json(run.path / overlay.FILE, decisions)
        # Last: a folder with a recipe is listed as a run, and then needs a status.
        with homes.replacing(run.path / files.RECIPE) as file:
            file.write(recipe.to_yaml())
    return run


def at(home: Path, identity: str) -> Run:
    """The run with an id, whether it exists or not; `get_run` checks it."""
    return Run(Path(home) / homes.RUNS / identity)


def list_runs(home: Path) -> list[Run]:
    """All runs, newest first. Folders that are not runs are skipped."""
    found = [Run(path.parent) for path in (Path(home) / homes.RUNS).glob(f"*/{files.RECIPE}")]
    return sorted(found, key=lambda run: (run.created, run.id), reverse=True)


def readable_runs(home: Path) -> tuple[list[Run], list[tuple[str, str]]]:
    """All runs whose recipe can be read, newest first, and the others.

    Returns:
        (runs, [(id, sentence)]).
    """
    whole, damaged = [], []
    for run in list_runs(home):
        try:
            run.recipe  # noqa: B018  the Run keeps it, so the error cannot come later
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
    valid = _ID.match(identity) and identity not in (".", "..")
    path = at(home, identity).path / files.RECIPE
    if not valid or not path.exists():
        # Named as `engine.runs.trash` does.
        if valid and any((Path(home) / homes.TRASH).glob(f"*Z.{identity}")):
            raise RunError(
                f"run {identity} is in the trash; restore it there, or with: "
                f"python -m engine restore {identity}"
            )
        if valid and (path.parent / files.EVENTS).exists():
            raise DamagedFile(path, manifest.MISSING)
        raise RunError(
            f"there is no run {identity!r} in {home}; list them with: python -m engine runs"
        )
    return Run(path.parent)
