"""Whether a run's events are what `engine.runs.events` says they are."""

from engine.runs import events


def unknown_fields(run) -> list[dict]:
    """Events of a run that lack a field of their kind, or have one that the kind does not name."""
    found = []
    for event in run.events()[0]:
        kind, fields = events.KINDS[event["event"]], set(event) - {"t", "event"}
        if not kind.__required_keys__ <= fields <= set(kind.__annotations__):
            found.append(event)
    return found
