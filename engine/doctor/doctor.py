"""The doctor: checks everything Graft has written, reports what is wrong and what to do.

    from engine.doctor import doctor
    for finding in doctor.examine():
        print(finding.severity, finding.text, finding.remedy)

`examine` changes nothing. `fix` does what loses no data: it deletes what is half-written, what is
computed again when needed, and damaged checkpoints if there is an undamaged one; it moves folders
that are not runs to the trash; it makes damaged files of runs and datasets again, or moves them to
the folder `damaged` (`engine.doctor.restore`). Everything else is left to a person.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from engine import home as homes
from engine.doctor import data_checks, home_checks, run_checks
from engine.doctor.home_checks import Finding
from engine.errors import GraftError

CHECKS = {
    "home": home_checks.disk,
    "leftovers": home_checks.leftovers,
    "settings": home_checks.settings_file,
    "queue": home_checks.queue,
    "accounts": home_checks.accounts,
    "runs": run_checks.check,
    "datasets": data_checks.prepared,
    "saved": data_checks.saved,
    "decisions": data_checks.decisions,
    "notes": data_checks.notes,
    "cache": home_checks.cached,
    "devices": home_checks.devices,
}
"""Generators of Findings by name, each called with the home."""


def examine(home: Path | None = None) -> list[Finding]:
    """Runs all checks.

    Args:
        home: Graft's home; None for the usual one (`engine.home.home`).

    Returns:
        Findings in the order of CHECKS. If the home cannot be used at all, one error.
    """
    try:
        folder = homes.home(home)
    except GraftError as error:
        return [Finding("home", "error", str(error))]
    found = []
    for name, check in CHECKS.items():
        try:
            for finding in check(folder):  # one by one, to keep those before an error
                found.append(finding)
        except (OSError, ValueError, GraftError) as error:
            # A disk that cannot be read is a finding too; the other checks go on.
            text = f"the check of {name} stopped unexpectedly ({error})"
            found.append(Finding(name, "error", text, "check the disk and the file permissions"))
    return found


def fix(findings: Iterable[Finding]) -> list[Finding]:
    """Fixes what can be fixed without losing data.

    Args:
        findings: of `examine`.

    Returns:
        One for each fixable finding: "ok" with what was wrong and what was done, or "error" with
        why it still is.
    """
    done = []
    for finding in findings:
        if finding.fix is None:
            continue
        try:
            said = finding.fix()
            text = f"{finding.text}: {said}" if isinstance(said, str) else finding.text
            done.append(Finding(finding.check, "ok", text))
        except (OSError, GraftError) as error:
            text = f"could not be fixed ({error}): {finding.text}"
            done.append(Finding(finding.check, "error", text, finding.remedy))
    return done


def sound(findings: Iterable[Finding]) -> bool:
    """Whether there is nothing worse than a warning."""
    return all(finding.severity != "error" for finding in findings)
