"""What `engine.doctor.doctor` checks of runs: recipes, states, logs, models, checkpoints. Light."""

from collections.abc import Iterator
from pathlib import Path

from engine import home as homes
from engine.doctor.home_checks import Finding, age, remove
from engine.errors import DamagedFile, GraftError
from engine.host import processes
from engine.runs import checkpoint, events, manifest, queue, runs, trash

MINUTE = 60
"""Age in seconds from which a folder is no longer one that is being made."""
_ENDED = ("finished", "stopped", "failed")


def check(home: Path) -> Iterator[Finding]:
    """All runs, one after another."""
    folder, count, wrong = home / "runs", 0, False
    try:
        placed = set(queue.waiting(home)) | {slot["run"] for slot in queue.slots(home)}
    except GraftError:  # told by the check of the queue
        placed = None
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith(".") or not path.is_dir():
            continue
        count += 1
        for finding in _run(runs.Run(path), placed):
            wrong = wrong or finding.severity != "ok"
            yield finding
    if not wrong:
        yield Finding("runs", "ok", f"{count} run{'s' * (count != 1)}: nothing is wrong")


def _run(run, placed) -> Iterator[Finding]:
    if not (run.path / "recipe.yaml").exists():
        yield from _no_recipe(run)
        return
    try:
        run.recipe  # noqa: B018
    except GraftError as error:
        yield Finding("runs", "error", str(error), _put_away(run))
    yield from _state(run, placed)
    yield from _log(run)
    yield from _model(run)
    yield from _checkpoints(run)


def _put_away(run) -> str:
    return f"take the file from a backup, or move the run to the trash: python -m engine delete {run.id}"


def _no_recipe(run):
    log = run.path / "events.jsonl"
    if log.exists() and log.stat().st_size:
        yield Finding(
            "runs",
            "error",
            f"run {run.id} has a log but no recipe.yaml, so it is not listed",
            f"take recipe.yaml from a backup, or delete {run.path}",
        )
    elif age(run.path) > MINUTE:
        yield Finding(
            "runs",
            "warning",
            f"{run.path} is no run: it holds neither a recipe nor events",
            "doctor --fix moves it to the trash",
            lambda: trash.move(run.path),
        )


# -- where it stands ------------------------------------------------------------------------------


def _state(run, placed):
    path = run.path / "status.json"
    try:
        state = homes.read_json(path)
        why = "is missing"
    except DamagedFile:
        state, why = None, "is torn (cut off or overwritten)"
    if not isinstance(state, dict) or state.get("status") not in runs.STATUSES:
        known = _from_log(run)
        yield Finding(
            "runs",
            "error",
            f"status.json of run {run.id} {why if state is None else 'says nothing of a status'}, so "
            "the run counts as failed",
            f"doctor --fix writes it anew from the log, which ends with {known['status']!r}"
            if known
            else f"resume the run, or move it to the trash: python -m engine delete {run.id}",
            (lambda: homes.write_json(path, known)) if known else None,
        )
    elif state["status"] in ("starting", "running") and not processes.alive(state):
        # Looked at again: it may have ended this moment, or the supervisor may be at it.
        if run.status in runs.RESUMABLE:
            yield Finding(
                "runs",
                "warning",
                f"the worker of run {run.id} died: it was killed, or ran out of memory, or the host "
                "went down",
                f"its log says more; python -m engine resume {run.id} takes it up from its last "
                "checkpoint",
            )
    elif state["status"] == "interrupted":
        yield Finding(
            "runs",
            "warning",
            f"run {run.id} was interrupted: {state.get('error') or 'its worker died'}",
            f"python -m engine resume {run.id} takes it up from its last checkpoint",
        )
    elif state["status"] == "queued" and placed is not None and run.id not in placed:
        if age(path) > MINUTE:
            yield Finding(
                "runs",
                "warning",
                f"run {run.id} waits, but is not in the queue, so it would never start",
                f"doctor --fix marks it as interrupted; then python -m engine resume {run.id} starts it",
                lambda: run.update(status="interrupted", error="it was not in the queue"),
            )


def _from_log(run) -> dict | None:
    """What status.json must have said, from a log with an end; None if the log has none."""
    found = events.effective(run.events()[0])
    end = next((e for e in reversed(found) if e["event"] == "end"), {})
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


def _log(run):
    unreadable, torn = events.damage(run.path / "events.jsonl")
    if unreadable:
        lines = f"{unreadable} lines" if unreadable > 1 else "one line"
        yield Finding(
            "logs",
            "warning",
            f"{lines} of the log of run {run.id} cannot be read and {'are' if unreadable > 1 else 'is'} "
            "passed over",
            "the charts lack these points; check the disk if the host was not switched off",
        )
    if torn and run.status not in runs.ACTIVE:
        yield Finding(
            "logs",
            "ok",
            f"the last line of the log of run {run.id} was cut off when its worker was ended: harmless, "
            "readers pass over it and the next writer removes it",
        )


# -- what it made ---------------------------------------------------------------------------------


def _model(run):
    state = run.state
    # A run that was stopped before its first step has kept nothing, and says so.
    if state["status"] != "finished" and not (
        state["status"] == "stopped" and state.get("kept_stage")
    ):
        return
    for name in ("final.keras", "inference.tflite"):
        path = run.path / name
        if not path.exists() or not path.stat().st_size:
            yield Finding(
                "models",
                "error",
                f"run {run.id} is {state['status']}, but its {name} is "
                f"{'empty' if path.exists() else 'missing'}",
                _again(run),
            )
        elif name in (manifest.changed(run.path, name) or ()):
            yield Finding(
                "models",
                "error",
                f"{name} of run {run.id} is not the file that was written: its answers cannot be trusted",
                _again(run),
            )
    for name in ("architecture.json", "evaluation.json", "environment.json", manifest.FILE):
        try:
            homes.read_json(run.path / name)
        except DamagedFile:
            yield Finding("runs", "error", f"{name} of run {run.id} is damaged", _put_away(run))


def _again(run) -> str:
    return f"take it from a backup, or train again: python -m engine train {run.path}/recipe.yaml"


def _checkpoints(run):
    store = checkpoint.Checkpoints(run.path)
    active = run.status in runs.ACTIVE
    found = {folder: checkpoint.whole(folder) for folder in store.listed()}
    # Of a run that trains they come and go while they are looked at.
    damaged = [folder for folder, whole in found.items() if not whole and folder.exists()]
    good = any(found.values())
    for folder in damaged:
        text = (
            f"checkpoint {folder.name} of run {run.id} is damaged: a file is not what was written"
        )
        if good:
            remedy = "another one is whole: doctor --fix deletes this one"
            mend = None if active else (lambda folder=folder: remove(folder))
            yield Finding("checkpoints", "warning", text, remedy, mend)
        else:
            remedy = (
                "no other is whole: take it from a backup, or resume the run from its beginning"
            )
            yield Finding("checkpoints", "error", text, remedy)
    for folder in sorted(store.path.glob(".ckpt-*")):
        if not active and folder.exists():
            yield Finding(
                "checkpoints",
                "warning",
                f"{folder.name} of run {run.id} is half-written, left by a worker that was ended",
                "nobody reads it: doctor --fix deletes it",
                lambda folder=folder: remove(folder),
            )
