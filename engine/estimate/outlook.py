"""How long a run still takes: the one place where that is computed. It is only shown. Light.

A run is a row of parts: the start, the data, the model; for each stage its features, the setup of
its first epoch and its epochs; then export, evaluation and reference. What a part takes is known
from this run itself, else from the preflight, else from earlier runs on this host (`PACES`), else
it is a guess from the size of the backbone (`engine.estimate.guesses`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from engine import home as homes
from engine.errors import DamagedFile
from engine.estimate import guesses
from engine.estimate.guesses import Known
from engine.features import store
from engine.host.log import EventWriter
from engine.host.pace import Pace
from engine.recipe import Recipe
from engine.runs.events import Left
from engine.runs.remaining import BRIEF, FINISHING, advanced
from engine.runs.runs import Run

CARRIES = ("phase", "stage_start", "batch", "epoch")
"""Kinds of events that get `left`."""
MOST = 10.0
"""By how much at most the parts so far correct what is expected of others."""


class Outlook:
    """Follows a run by its events, and says how long it still takes.

    Args:
        recipe: of the run.
        before: what is known of it.
        begun: when its process began, unix seconds.
        spent: seconds that it was at work before a pause.
    """

    def __init__(self, recipe: Recipe, before: Known, begun: float, spent: float = 0.0) -> None:
        self.recipe, self.before, self._origin = recipe, before, begun - spent
        self.whole = [bool(store.why_not(recipe, s.trainable)) for s in recipe.stages]
        self.counts = guesses.counts(recipe, before.images)
        self.order = ["start", "data", "model"]
        for number in range(len(recipe.stages)):
            self.order += [f"{number}:{part}" for part in ("features", "setup", "epoch")]
        self.order += FINISHING
        self._epochs = [stage.epochs for stage in recipe.stages]
        """Done in stages that have ended, else planned."""
        self._downloads = recipe.dataset.source == "tfds" and not before.prepared
        self.measured: dict[str, float] = {}
        """Seconds of parts in this run; of one epoch."""
        self.part, self.since = "start", begun
        self.stage, self.epoch, self.trained = 0, 0, False
        self._epoch_began, self._step = (begun, 0), 0
        self._shown: tuple[Left, float] | None = None
        self._pace = Pace()
        self._counted: tuple[float | None, float] = (None, begun)

    # -- what happens ---------------------------------------------------------------------------

    def take(self, kind: str, event: Mapping[str, Any], now: float) -> None:
        """Takes an event.

        Args:
            kind, event: as they are written.
            now: unix seconds.
        """
        if event.get("stage") is not None:
            self.stage = event["stage"]
        if kind == "phase":
            self._phase(event, now)
        elif kind == "start":
            self.counts = event["counts"]
        elif kind == "resume" and event["stage"] is not None:
            self.epoch, self.trained = event["epoch"], True
        elif kind == "stage_start":
            self._enter(f"{self.stage}:setup", now)
        elif kind == "batch":
            self._stepped(event["step"], now)
        elif kind == "epoch" and "loss" in event:
            self._epoch_ended(event, now)
        elif kind == "stage_end":
            self._epochs[self.stage] = self.epoch
            self.stage, self.epoch = self.stage + 1, 0
            last = self.stage == len(self.recipe.stages)
            self._enter(FINISHING[0] if last else f"{self.stage}:features", now)

    def _phase(self, event: Mapping[str, Any], now: float) -> None:
        name, done, total = event["phase"], event["done"], event["total"]
        if name == "data" and total and not self.counts:
            self.counts = guesses.counts(self.recipe, total)
        if name in self.order:
            self._enter(name, now)
        elif name == "features":
            self._enter(f"{self.stage}:features", now)
        elif name == "training" and self.part != f"{self.stage}:epoch":
            self._enter(f"{self.stage}:setup", now)
        left = self._pace.left(event["text"], done, total, now)
        # The pace of the first few says little.
        self._counted = left if total and 20 * done >= total else None, now

    def _enter(self, part: str, now: float) -> None:
        """Another part begins, so the one before has ended."""
        if part != self.part and part in self.order:
            if not self.part.endswith(":epoch"):
                self.measured[self.part] = now - self.since
            self.part, self.since, self._counted = part, now, (None, now)

    def _stepped(self, step: int, now: float) -> None:
        part, (began, first) = f"{self.stage}:epoch", self._epoch_began
        if self.part != part:  # the first batch waits for tracing and decoding
            self._enter(part, now)
            self._epoch_began = now, step
        elif step > first and (self.epoch == 0 or part not in self.measured):
            # Until an epoch has ended, its steps say how long it takes, validation aside. The first
            # of them are slow, so what was expected counts until they are many.
            seconds = (now - began) / (step - first) * self._steps * (1 + self._validation())
            known = self._prior(part)
            weight = (now - began) / (now - began + BRIEF) if known else 1.0
            self.measured[part] = weight * seconds + (1 - weight) * (known or 0.0)
        self._step = step

    def _epoch_ended(self, event: Mapping[str, Any], now: float) -> None:
        part, step = f"{self.stage}:epoch", event["step"]
        # The first epoch also includes the tracing of validation, so its training says more.
        trained = now - event["seconds"] + self.counts.get("train", 0) / event["images_per_second"]
        if self.epoch == 0 and max(self.since, self._epoch_began[0]) < trained < now:
            self._stepped(step, trained)
        began, first = self._epoch_began
        if self.part == part and self.epoch and step > first:
            seconds, old = (now - began) / (step - first) * self._steps, self.measured.get(part)
            self.measured[part] = seconds if old is None or self.epoch == 1 else (old + seconds) / 2
        self._enter(part, now)
        self.epoch, self.trained = event["epoch"] + 1, True
        self._epoch_began, self._step = (now, step), step

    # -- what is still to come ------------------------------------------------------------------

    @property
    def _steps(self) -> int:
        """Batches in an epoch."""
        return max(1, -(-int(self.counts.get("train", 1)) // self.recipe.batch_size))

    def _validation(self) -> float:
        """How long validation takes, against the training steps of an epoch: a forward pass is a
        third of a step that trains all layers."""
        trains_all = self.recipe.stages[self.stage].trainable == "all"
        share = self.counts.get("validation", 0) / max(1, self.counts.get("train", 1))
        return share / 3 if trains_all else share

    def _expected(self, part: str) -> float | None:
        """Seconds of a part; of one epoch; None if nothing is known."""
        if part in self.measured:
            return self.measured[part]
        prior = self._prior(part)
        return prior and prior * self._drift()

    def _drift(self) -> float:
        """How much longer than expected the parts have taken so far, the latest before all: other
        work may slow down the host, or a guess was wrong."""
        taken, (counted, at) = dict(self.measured), self._counted
        if counted is not None:
            taken[self.part] = at - self.since + counted
        seconds = priors = 0.0
        for part in self.order[: self.order.index(self.part) + 1]:
            prior, number = self._prior(part), int(part.split(":")[0]) if ":" in part else 0
            if part not in taken or not prior or part == "data" and self._downloads:
                continue
            if part == "start":  # files read from memory, not from the disk: the host is no quicker
                taken[part] = max(taken[part], prior)
            epochs = 1
            if part.endswith(":epoch"):
                epochs = max(1, self.epoch if number == self.stage else self._epochs[number])
            fades = 2 if taken[part] * epochs > BRIEF else 1
            seconds = seconds / fades + taken[part] * epochs
            priors = priors / fades + prior * epochs
        found = (seconds + BRIEF) / (priors + BRIEF)
        return min(MOST, max(1 / MOST, found))

    def _prior(self, part: str) -> float | None:
        """What was expected of a part before this run."""
        found = self.before.parts.get(part)
        if found is not None or not self.counts:
            return found
        pace = self.before.paces.get(guesses.key(self.recipe, part, self.whole, self.before))
        units = guesses.units(self.recipe, part, self.counts, self.before)
        if pace is not None:
            return pace * units
        return guesses.guess(self.recipe, part, self.whole, units)

    def _all(self, parts: list[str]) -> float | None:
        """Seconds of parts from their begin to their end, all epochs included."""
        whole = 0.0
        for part in parts:
            seconds = self._expected(part)
            if seconds is None:
                return None
            epochs = 1
            if part.endswith(":epoch"):
                number = int(part.split(":")[0])
                epochs = self.recipe.stages[number].epochs - self.epoch * (number == self.stage)
            whole += seconds * max(0, epochs)
        return whole

    def _present(self, now: float) -> float:
        """Seconds until the present part ends."""
        passed = now - self.since
        if self.part.endswith(":epoch"):
            each, (began, first) = self._expected(self.part) or 0.0, self._epoch_began
            open_ = 1 - min(1.0, (self._step - first) / self._steps)
            current = max(each - (now - began), each * open_ / (1 + self._validation()))
            epochs = self.recipe.stages[self.stage].epochs - self.epoch
            return max(0.0, (epochs - 1) * each + current) if epochs > 0 else 0.0
        counted, at = self._counted
        if counted is not None:
            return max(0.0, counted - (now - at))
        # What takes longer than expected goes on a little.
        return max((self._expected(self.part) or 0.0) - passed, passed / 10)

    def left(self, now: float) -> Left | None:
        """How long the run still takes; None while that is not known.

        Args:
            now: unix seconds.
        """
        place = self.order.index(self.part)
        later, finish = self._all(self.order[place + 1 :]), self._all(list(FINISHING))
        if later is None or finish is None:
            return None
        seconds = max(1.0, later + self._present(now))
        elapsed, at_least = max(0.0, now - self._origin), 0.0
        if self._shown:  # what was shown since the last event does not go back
            before, at = self._shown
            at_least = advanced(before, now - at)[1]
        share = min(0.99, max(at_least, elapsed / (elapsed + seconds)))
        stages = self.recipe.stages[self.stage :]
        training = self.part.endswith((":setup", ":epoch"))
        left: Left = {
            "seconds": round(seconds, 2),
            "later": round(later, 2),
            "finish": round(finish, 2) if self.trained or training else None,
            "share": round(share, 4),
            "at_most": any(stage.early_stopping for stage in stages),
        }
        self._shown = left, now
        return left

    def keep(self, paces: Mapping[str, float], now: float) -> dict[str, float]:
        """`paces` with what the parts of this run took, which ends now."""
        found, self.measured[self.part] = dict(paces), now - self.since
        for part, seconds in self.measured.items():
            units = guesses.units(self.recipe, part, self.counts, self.before)
            if units > 0:
                name = guesses.key(self.recipe, part, self.whole, self.before)
                found[name] = (found.get(name, seconds / units) + seconds / units) / 2
        return found


class Timed:
    """A run's event log that adds to its events how long the run still takes.

    Args:
        run: its folder, and what happened before a pause.
        log: takes the events.
        begun: when its worker began, unix seconds.
    """

    def __init__(self, run: Run, log: EventWriter, begun: float) -> None:
        self._run, self._log = run, log
        spent = run.state.get("spent") or 0.0
        self.outlook = Outlook(run.recipe, guesses.known(run), begun, spent)

    def write(self, event: str, /, **fields: Any) -> None:
        """Writes an event."""
        now = time.time()
        self.outlook.take(event, fields, now)
        if event in CARRIES and (left := self.outlook.left(now)):
            fields["left"] = left
        self._log.write(event, **fields)

    def keep(self) -> None:
        """Keeps what the parts of a finished run took, for later ones on this host."""
        path = self._run.home / homes.CACHE / guesses.PACES
        try:
            before = homes.read_json(path, {})
        except DamagedFile:
            before = {}
        # The run is finished: a full disk or a deleted cache only makes later guesses coarser.
        with contextlib.suppress(OSError):
            homes.write_json(path, self.outlook.keep(before, time.time()))


def expected_seconds(run: Run) -> float | None:
    """Expected duration of a run that has not begun; None if nothing is known of its dataset."""
    found = Outlook(run.recipe, guesses.known(run), 0.0).left(0.0)
    return found and found["seconds"]
