"""The doctor: looks through all that Graft has written, says what is wrong and what to do. Light.

    from engine.doctor import doctor
    for finding in doctor.examine():
        print(finding.severity, finding.text, finding.remedy)

Nothing is changed by looking. `mend` does what can be done without a loss: it deletes what is
half-written, what is computed again when needed, and checkpoints beside a whole one; it moves to the
trash what is no run. Whatever only a person can decide is left to one.
"""

from pathlib import Path

from engine import home as homes
from engine.doctor import home_checks, run_checks
from engine.doctor.home_checks import Finding
from engine.errors import GraftError

CHECKS = {
    "home": home_checks.disk,
    "leftovers": home_checks.leftovers,
    "settings": home_checks.settings_file,
    "queue": home_checks.queue,
    "runs": run_checks.check,
    "datasets": home_checks.prepared,
    "notes": home_checks.notes,
    "cache": home_checks.cached,
    "devices": home_checks.devices,
}
"""Generators of Findings by name, each called with the home."""


def examine(home: Path | None = None) -> list[Finding]:
    """Runs all checks.

    Args:
        home: Graft's home; None for the usual one (`engine.home.home`).

    Returns:
        What was found, in the order of CHECKS. A home that cannot be used at all is an error, and the
        only finding.
    """
    try:
        folder = homes.home(home)
    except GraftError as error:
        return [Finding("home", "error", str(error))]
    found = []
    for name, check in CHECKS.items():
        try:
            for finding in check(folder):
                found.append(finding)
        except (OSError, ValueError, GraftError) as error:
            # A disk that cannot be read is a finding too; the other checks go on.
            text = f"the check of {name} broke off ({error})"
            found.append(Finding(name, "error", text, "check the disk and the rights on the files"))
    return found


def mend(findings) -> list[Finding]:
    """Mends what can be mended without a loss.

    Args:
        findings: of `examine`.

    Returns:
        One for each that could be: severity "ok" with what was wrong, or "error" with why it is still.
    """
    done = []
    for finding in findings:
        if not finding.fixable:
            continue
        try:
            finding.mend()
            done.append(Finding(finding.check, "ok", finding.text))
        except (OSError, GraftError) as error:
            text = f"could not be mended ({error}): {finding.text}"
            done.append(Finding(finding.check, "error", text, finding.remedy))
    return done


def sound(findings) -> bool:
    """Whether there is nothing worse than a warning."""
    return all(finding.severity != "error" for finding in findings)
