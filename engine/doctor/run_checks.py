"""Checks of runs: recipes, states, logs, models, checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from engine import home as homes
from engine.doctor import restore
from engine.doctor.data_checks import unreadable
from engine.doctor.home_checks import Finding, age, remove
from engine.errors import DamagedFile, GraftError
from engine.host import manifest, processes
from engine.host.words import plural
from engine.recipe import Recipe
from engine.runs import checkpoint, events, files, queue, runs, trash

MINUTE = 60
"""Age in seconds from which a folder is no longer being created."""
_ENDED = ("finished", "stopped", "failed")


def check(home: Path) -> Iterator[Finding]:
    """All runs, one after another."""
    folder, count, wrong = home / homes.RUNS, 0, False
    try:
        placed = set(queue.waiting(home)) | {slot["run"] for slot in queue.slots(home)}
    except GraftError:  # the check of the queue reports it
        placed = None
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith(".") or not path.is_dir():
            continue
        count += 1
        for finding in _run(runs.Run(path), placed):
            wrong = wrong or finding.severity != "ok"
            yield finding
    if not wrong:
        yield Finding("runs", "ok", f"{plural(count, 'run')}: nothing is wrong")


def _run(run: runs.Run, placed: set[str] | None) -> Iterator[Finding]:
    """One run; placed: the runs in the queue, None if it cannot be read."""
    if not (run.path / files.RECIPE).exists():
        yield from _no_recipe(run)
        return
    try:
        _ = None if _torn(run) else run.recipe
    except GraftError as error:
        fix = partial(restore.record, run.home, run.path / files.MANIFEST, [files.RECIPE])
        same = _same_recipe(run)
        remedy = "it still says what was trained: doctor --fix records it as it is now"
        remedy = remedy if same else _restore_or_delete(run)
        yield Finding("runs", "error", str(error), remedy, fix if same else None)
    yield from _state(run, placed)
    yield from _log(run)
    yield from _files(run)
    yield from _checkpoints(run)


def _same_recipe(run: runs.Run) -> bool:
    """Whether a recipe that changed still has everything that decides a result."""
    try:
        found = Recipe.from_yaml((run.path / files.RECIPE).read_text(encoding="utf-8"))
        return found.hash == homes.read_json(run.path / files.STATUS, {}).get("recipe_hash")
    except (OSError, ValueError, GraftError):
        return False


def _restore_or_delete(run: runs.Run) -> str:
    return (
        "restore the file from a backup, or move the run to the trash: "
        f"python -m engine delete {run.id}"
    )


def _no_recipe(run: runs.Run) -> Iterator[Finding]:
    log = run.path / files.EVENTS
    if log.exists() and log.stat().st_size:
        yield Finding(
            "runs",
            "error",
            f"run {run.id} has a log but no {files.RECIPE}, so it is not listed",
            f"restore {files.RECIPE} from a backup, or delete {run.path}",
        )
    elif age(run.path) > MINUTE:
        yield Finding(
            "runs",
            "warning",
            f"{run.path} is not a run: it has neither a recipe nor events",
            "doctor --fix moves it to the trash",
            partial(trash.move, run.path),
        )


# -- states ---------------------------------------------------------------------------------------


def _state(run: runs.Run, placed: set[str] | None) -> Iterator[Finding]:
    path = run.path / files.STATUS
    why = "is missing"
    try:
        state = homes.read_json(path)
    except DamagedFile:
        state, why = None, "is damaged (cut off or overwritten)"
    if not isinstance(state, dict) or state.get("status") not in runs.STATUSES:
        yield _no_state(run, why if state is None else "contains no status")
    elif state["status"] in ("starting", "running") and not processes.alive(state):
        # Read again: the run may just have ended, or the supervisor may be handling it.
        if run.status in runs.RESUMABLE:
            yield Finding(
                "runs",
                "warning",
                f"the worker of run {run.id} died: it was killed, it ran out of memory, or the "
                "host went down",
                "see its log; to resume from its last checkpoint: "
                f"python -m engine resume {run.id}",
            )
    elif state["status"] == "interrupted":
        yield Finding(
            "runs",
            "warning",
            f"run {run.id} was interrupted: {state.get('error') or 'its worker died'}",
            f"to resume from its last checkpoint: python -m engine resume {run.id}",
        )
    elif state["status"] == "queued" and placed is not None and run.id not in placed:
        if age(path) > MINUTE and not run.being_made:
            yield Finding(
                "runs",
                "warning",
                f"run {run.id} is waiting, but is not in the queue, so it would never start",
                "doctor --fix marks it as interrupted; then start it with: "
                f"python -m engine resume {run.id}",
                partial(run.update, status="interrupted", error="it was not in the queue"),
            )


def _no_state(run: runs.Run, why: str) -> Finding:
    known = _from_log(run)
    return Finding(
        "runs",
        "error",
        f"{files.STATUS} of run {run.id} {why}, so the run counts as failed",
        f"doctor --fix writes it again from the log, which ends with {known['status']!r}"
        if known
        else f"resume the run, or move it to the trash: python -m engine delete {run.id}",
        partial(homes.write_json, run.path / files.STATUS, known) if known else None,
    )


def _from_log(run: runs.Run) -> dict | None:
    """The contents of status.json, from a log with an end; None if the log has none."""
    found = events.effective(events.read(run.path / files.EVENTS, 0)[0])
    end: dict = next((e for e in reversed(found) if e["event"] == "end"), {})
    if end.get("status") not in _ENDED:
        return None
    begun = next((e["t"] for e in found if "t" in e), end.get("t"))
    return {
        "status": end["status"],
        "created": begun,
        "started": begun,
        "ended": end.get("t"),
        "error": end.get("text") if end["status"] == "failed" else None,
        "kept_stage": end.get("kept_stage"),
    }


def _log(run: runs.Run) -> Iterator[Finding]:
    unreadable, torn = events.damage(run.path / files.EVENTS)
    if unreadable:
        yield Finding(
            "logs",
            "warning",
            f"{plural(unreadable, 'line')} of the log of run {run.id} cannot be read",
            "charts lack these points; check the disk, unless the host was switched off",
        )
    if torn and run.status not in runs.ACTIVE:
        yield Finding(
            "logs",
            "ok",
            f"the last line of the log of run {run.id} was cut off when its worker was killed: "
            "harmless, readers skip it and the next writer removes it",
        )


# -- files and checkpoints ------------------------------------------------------------------------


def _files(run: runs.Run) -> Iterator[Finding]:
    """The files that a finished run keeps, as they were recorded at its end."""
    state = run.state
    # A run that was stopped before its first step has no model, and its status says so.
    if state["status"] != "finished" and not (
        state["status"] == "stopped" and state.get("kept_stage")
    ):
        return
    path, torn = run.path / files.MANIFEST, _torn(run)
    known = {} if torn else manifest.recorded(path) or {}
    names = {*files.lasting(run.path), *known, files.KERAS, files.LITERT} - {files.RECIPE}
    order = list(restore.RESTORED)
    wrong, sound = [], []
    for name in sorted(names, key=lambda n: (order.index(n) if n in order else len(order), n)):
        if why := _damage(run.path / name, known.get(name)):
            wrong.append(_damaged(run, state["status"], name, why))
        elif name not in known:
            sound.append(name)
    again = partial(restore.record, run.home, path, [*sound, files.RECIPE])
    if torn:
        text = f"{files.MANIFEST} of run {run.id} is damaged, so its files cannot be checked"
        remedy = "doctor --fix records those that can be read, as they are now"
        yield Finding("runs", "error", text, remedy, again)
    yield from wrong
    if sound and not torn:
        count = plural(len(sound), "file")
        text = f"{count} of run {run.id} have no record, as in earlier versions of Graft"
        yield Finding("runs", "ok", text, "doctor --fix records them as they are now", again)


def _torn(run: runs.Run) -> bool:
    """Whether its record is damaged; what is wrong with the other files is not known then."""
    try:
        manifest.recorded(run.path / files.MANIFEST)
    except DamagedFile:
        return True
    return False


def _damage(path: Path, digest: str | None) -> str:
    """What is wrong with a file; "" if nothing is."""
    if digest and manifest.digest(path) == digest:
        return ""
    if not path.exists() or not path.stat().st_size:
        return "empty" if path.exists() else "missing"
    return manifest.CHANGED if digest else unreadable(path)


def _damaged(run: runs.Run, status: str, name: str, why: str) -> Finding:
    path, model = run.path / name, name in (files.KERAS, files.LITERT)
    text = f"{name} of run {run.id} is damaged ({why})"
    if model and why == manifest.CHANGED:
        text = (
            f"{name} of run {run.id} is not the file that was written, so its answers cannot be "
            "trusted"
        )
    elif why in ("empty", "missing"):
        text = f"run {run.id} is {status}, but its {name} is {why}"
    remedy = _restore_or_train(run) if model else "restore it from a backup"
    if name in restore.RESTORED:
        remedy = f"doctor --fix makes it again from the rest, if it can; otherwise {remedy}"
    elif path.exists():
        remedy += "; doctor --fix moves it aside, so that the rest of the run can be used"
    fixable = name in restore.RESTORED or name != files.KERAS or path.exists()
    fix = partial(restore.run_file, run, name) if fixable else None
    return Finding("models" if model else "runs", "error", text, remedy, fix)


def _restore_or_train(run: runs.Run) -> str:
    recipe = run.path / files.RECIPE
    return f"restore it from a backup, or train again: python -m engine train {recipe}"


def _checkpoints(run: runs.Run) -> Iterator[Finding]:
    store = checkpoint.Checkpoints(run.path)
    active = run.status in runs.ACTIVE
    found = {folder: checkpoint.whole(folder) for folder in store.listed()}
    # While a run trains, checkpoints may disappear between listing and reading.
    damaged = [folder for folder, whole in found.items() if not whole and folder.exists()]
    good = any(found.values())
    for folder in damaged:
        text = f"checkpoint {folder.name} of run {run.id} is damaged: a file has changed"
        if good:
            remedy = "another checkpoint is undamaged: doctor --fix deletes this one"
            fix = None if active else partial(remove, folder)
            yield Finding("checkpoints", "warning", text, remedy, fix)
        else:
            remedy = "no other is undamaged: restore it from a backup, or resume from the start"
            yield Finding("checkpoints", "error", text, remedy)
    for folder in sorted(store.path.glob(".ckpt-*")):
        if not active and folder.exists():
            yield Finding(
                "checkpoints",
                "warning",
                f"{folder.name} of run {run.id} is half-written, left by a killed worker",
                "nothing reads it: doctor --fix deletes it",
                partial(remove, folder),
            )
