"""Users of a test's home."""

from engine.accounts import roles, users

PEOPLE = {"vic": roles.VIEWER, "tom": roles.TRAINER, "tess": roles.TRAINER, "ada": roles.ADMIN}
"""Names and roles."""


def add_people(home) -> None:
    """Adds `PEOPLE`, without passwords, which would take time."""
    for name, role in PEOPLE.items():
        users.add(home, name, role, email=f"{name}@example.org")
