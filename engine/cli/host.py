"""Commands about this host: settings, cache, doctor."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from typing import Annotated

import typer

from engine import actions
from engine import home as homes
from engine.cli.options import AsJson, Home, console, json_out, line, safe, table
from engine.cli.terminal import say
from engine.errors import GraftError
from engine.host import words

STYLES = {"ok": "green", "warning": "yellow", "error": "red"}


def settings(
    change: Annotated[
        list[str] | None, typer.Argument(help="What to change, such as runs_per_device=2.")
    ] = None,
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """Show or change the settings that apply to all runs on this host."""
    from engine.host import settings

    folder = homes.home(home)
    changes = dict(_setting(text) for text in change or ())
    found = actions.change_settings(folder, **changes) if changes else settings.get(folder)
    if json_:
        return json_out(found)
    table(
        ["setting", "value", "help"],
        [[name, json.dumps(value), settings.HELP[name]] for name, value in found.items()],
    )


def _setting(text):
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise GraftError(f"a setting must look like runs_per_device=2; {text!r} was given")
    for text in (value, value.lower()):  # True, and paths in a list
        with contextlib.suppress(ValueError):
            return name, json.loads(text)
    return name, value  # a path, or a word, which the settings refuse with their own sentence


def cache(
    clear: Annotated[
        bool, typer.Option("--clear", help="Delete everything that no run is using.")
    ] = False,
    limit: Annotated[float | None, typer.Option(help="Limit its size, in GiB.")] = None,
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """Show, limit or clear the cached features and converted networks."""
    from engine.features import cache

    folder = homes.home(home)
    if limit is not None:
        actions.limit_cache(folder, limit)
    if clear:
        freed, stay = actions.clear_cache(folder)
        kept = f"; {words.plural(stay, 'entry', 'entries')} in use kept" if stay else ""
        say(f"Freed {words.memory(freed / 2**20)}{kept}.")
    found = cache.entries(folder)
    if json_:
        return json_out({"limit": cache.limit(folder), "entries": [asdict(e) for e in found]})
    total, most = words.memory(sum(e.bytes for e in found) / 2**20), cache.limit(folder) / 2**30
    line(f"{words.plural(len(found), 'entry', 'entries')}, {total} of at most {most:g} GiB")
    if found:
        table(
            ["kind", "content", "size", "in use"],
            [
                [
                    cache.KINDS[e.kind],
                    e.title,
                    words.memory(e.bytes / 2**20),
                    "yes" if e.busy else "",
                ]
                for e in found
            ],
        )


def doctor(
    fix: Annotated[
        bool, typer.Option("--fix", help="Fix what can be fixed without losing anything.")
    ] = False,
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """Find what is damaged, left over or full, and say what to do. Exit code 1 if errors remain."""
    from engine.doctor import doctor

    found = doctor.examine(home)
    wanted = fix and any(each.fixable for each in found)
    fixed = actions.fix(homes.home(home), found) if wanted else []
    if fixed:
        found = doctor.examine(home)
    failed = [each for each in fixed if each.severity == "error"]
    sound = doctor.sound(found) and not failed
    if json_:
        json_out(
            {
                "sound": sound,
                "mended": [each.to_dict() for each in fixed],
                "findings": [each.to_dict() for each in found],
            }
        )
    else:
        for each in fixed:
            _finding("fixed" if each.severity == "ok" else "error", each)
        for each in found:
            _finding(each.severity, each)
        if fixable := sum(each.fixable for each in found):
            say(f"{fixable} of these can be fixed: python -m engine doctor --fix")
    if not sound:
        raise typer.Exit(1)


def _finding(word, finding):
    """One finding: a word, the sentence, and what to do below it."""
    style = STYLES.get(word, "green")
    text = finding.text[:1].upper() + finding.text[1:]
    head = f"[{style}]{word:8}[/{style}] {finding.check:12}"
    console.print(f"{head}{safe(text)}.", highlight=False, soft_wrap=True)
    if finding.remedy and word != "fixed":
        line(f"{'':21}{finding.remedy}")
