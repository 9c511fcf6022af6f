"""Who may use which route: the one table, which docs/security.md shows.

A route that is not in it is for people who are signed in (`REST`).
"""

from dataclasses import dataclass

from engine.accounts import users
from engine.accounts.roles import VIEWER

EVERYONE, NOBODY = "everyone", "nobody"
FEW = 64 * 1024
"""Bytes of a request's body that is not an upload: forms, and the frontend's DELETE."""
PHOTO = 50_000_000
"""Bytes that a guest may send at once: a photo; the page's own limit is lower."""


@dataclass(frozen=True)
class Rule:
    """Who may use a route.

    Attributes:
        path: its path, below `server.baseUrlPath`; one that ends with "/…" stands for all below.
        who: the lowest role, or EVERYONE, or NOBODY.
        what: what it answers.
        most: bytes of a request's body; None where `uploads` decides.
    """

    path: str
    who: str
    what: str
    most: int | None = FEW


HEALTH = "/_stcore/health"
UPLOAD = "/_stcore/upload_file/"
RULES = (
    Rule(HEALTH, EVERYONE, "whether the server runs"),
    Rule("/_stcore/host-config", EVERYONE, "settings of the frontend, the same for all"),
    Rule("/sign-in", EVERYONE, "the sign-in page"),
    Rule("/sign-in/provider", EVERYONE, "the way to the OpenID provider"),
    Rule("/oauth2callback", EVERYONE, "the way back from it"),
    Rule("/sign-out", EVERYONE, "ends the session of the browser that asks"),
    Rule("/s/…", EVERYONE, "a guest's page; needs the link's token", PHOTO),
    Rule("/wall/…", EVERYONE, "the wall of a link; needs its token"),
    Rule("/thumbs/…", VIEWER, "thumbnails of prepared datasets"),
    Rule("/answers/…", VIEWER, "thumbnails of a batch, to its owner and admins"),
    Rule("/marks/…", VIEWER, "thumbnails of marked images, to their owner and admins"),
    Rule("/vendor/…", VIEWER, "the script of the charts"),
    Rule(
        "/_stcore/stream",
        VIEWER,
        "the websocket of a page; else it sends the page to sign in",
    ),
    Rule(f"{UPLOAD}…", VIEWER, "uploads, each to a page of the same user", None),
    Rule("/_stcore/bidi-components/…", VIEWER, "scripts of Graft's own widgets"),
    Rule("/component/…", VIEWER, "scripts of other widgets; Graft has none"),
    Rule("/media/…", VIEWER, "files of a page, under the hash of their content"),
    Rule("/_stcore/metrics", NOBODY, "figures about all sessions"),
    Rule("/_stcore/script-health-check", NOBODY, "would run a page for anybody"),
    Rule("/_stcore/agent/…", NOBODY, "would let programs use the pages"),
    Rule("/auth/…", NOBODY, "Streamlit's own sign-in; Graft has another"),
)
REST = Rule("/…", VIEWER, "pages and their static files")


def rule(path: str) -> Rule:
    """The rule of a path below `server.baseUrlPath`."""
    found = _EXACT.get(path)
    return found or next((each for start, each in _BELOW if path.startswith(start)), REST)


_EXACT = {each.path: each for each in RULES if not each.path.endswith("/…")}
_BELOW = [(each.path[:-1], each) for each in RULES if each.path.endswith("/…")]


def allows(found: Rule, role: str | None) -> bool:
    """Whether a role may use a route; None is somebody without a session."""
    if found.who in (EVERYONE, NOBODY):
        return found.who == EVERYONE
    return role is not None and users.ROLES.index(role) >= users.ROLES.index(found.who)


def markdown() -> str:
    """The table as docs/security.md shows it."""
    lines = [
        "| route | no session | viewer | trainer | admin | what it answers |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for each in (*RULES, REST):
        may = ["yes" if allows(each, role) else "–" for role in (None, *users.ROLES)]
        lines.append(f"| {' | '.join([f'`{each.path}`', *may, each.what])} |")
    return "\n".join(lines)
