"""How much may be uploaded: by one page, by one user, and in all, in memory and arriving."""

from collections import Counter, defaultdict

from streamlit.runtime import Runtime

from engine import home as homes
from engine.host import limits, settings

SHARE = 4
"""Uploads take at most the memory divided by this, whatever the settings say."""
FOREIGN = "files are taken only for an open page of your own; load the page again"
NAMES = {"session": "one page", "user": "one user", "total": "all pages together"}


class Uploads:
    """Counts the uploads of all pages. Streamlit keeps each file until its page removes it or is
    closed; here, files that the page's widgets no longer name are removed too."""

    def __init__(self):
        self._arriving: Counter[str] = Counter()
        self._owners: dict[str, str | None] = {}
        self._used: defaultdict[str, set[str]] = defaultdict(set)
        self._notices: dict[str, str] = {}

    # -- whose, and how much -----------------------------------------------------------------------

    def refusal(self, session: str, name: str | None) -> str | None:
        """Why a user may not upload to a page, given Streamlit's id of its session; or None."""
        page = Runtime.instance().get_app_session(session)
        # Streamlit keeps the trusted headers of the page's websocket there.
        if page is None or not page.matches_user_info({"name": name}):
            return FOREIGN
        self._owners[session] = name
        return None

    def arriving(self, session: str) -> "Arriving":
        """An upload that begins to arrive."""
        return Arriving(self, session, _allowed())

    def add(self, session: str, count: int) -> None:
        """Counts bytes that arrive, or no longer do if `count` is negative."""
        self._arriving[session] += count
        if not self._arriving[session]:
            del self._arriving[session]

    def too_much(self, session: str, count: int, allowed: dict[str, int]) -> str | None:
        """Why so many more bytes cannot be taken, as a sentence; None if they can."""
        now = self._taken(session)
        if any(now[kind] + count > allowed[kind] for kind in allowed):
            self.release()
            now = self._taken(session)
        for kind, most in allowed.items():
            if now[kind] + count > most:
                return self._note(session, _sentence(kind, most, now[kind], count))
        return None

    def _taken(self, session: str) -> dict[str, int]:
        """Bytes of files that are kept and that arrive: of a page, of its user, of all."""
        taken = Counter(self._arriving)
        for each, files in list(_manager().file_storage.items()):
            taken[each] += sum(len(file.data) for file in list(files.values()))
        self._owners = {each: owner for each, owner in self._owners.items() if taken[each]} | {
            session: self._owners.get(session)
        }
        mine = [each for each, owner in self._owners.items() if owner == self._owners[session]]
        user = sum(taken[each] for each in mine)
        return {"session": taken[session], "user": user, "total": taken.total()}

    # -- what a page was refused -------------------------------------------------------------------

    def _note(self, session: str, text: str) -> str:
        """Keeps a refusal for the page, which Streamlit only gives the number 413."""
        self._notices = {session: text} | {
            each: kept for each, kept in self._notices.items() if each in self._owners
        }
        page = Runtime.instance().get_app_session(session)
        if page:
            page.request_rerun(page._client_state)  # as Streamlit does when a file has changed
        return text

    def notice(self, session: str) -> str | None:
        """Why the last upload of a page was refused, once."""
        return self._notices.pop(session, None)

    # -- what a page lets go -----------------------------------------------------------------------

    def watch(self) -> None:
        """Notes from now on which files the widgets of a page have used."""
        manager = _manager()
        get_files = manager.get_files

        def noted(session_id, file_ids):
            found = get_files(session_id, file_ids)
            self._used[session_id].update(file.file_id for file in found)
            return found

        manager.get_files = noted

    def release(self) -> None:
        """Removes files that widgets have used and no longer name: the page went on, or took it."""
        manager = _manager()
        for session in set(self._used) - set(manager.file_storage):
            self._used.pop(session, None)
        for session, used in list(self._used.items()):
            page = Runtime.instance().get_app_session(session)
            if page is None:  # its files stay until it comes back, or is forgotten
                continue
            try:
                named = _named(page.session_state.get_widget_states())
            except RuntimeError:  # it runs, and changes them just now: next time
                continue
            for file_id in used - named:
                used.discard(file_id)
                manager.remove_file(session, file_id)


UPLOADS = Uploads()
"""Those of this server."""


class Arriving:
    """One upload, from its first byte until Streamlit has it or it was refused.

    Args:
        uploads: where it counts.
        session: of the page.
        allowed: bytes by page, user and in all.
    """

    def __init__(self, uploads: Uploads, session: str, allowed: dict[str, int]):
        self._uploads, self._session, self._allowed = uploads, session, allowed
        self._reserved = 0

    def grown(self, count: int) -> str | None:
        """Counts so many bytes in all; why that is too much, or None."""
        more = count - self._reserved
        if more <= 0:
            return None
        why = self._uploads.too_much(self._session, more, self._allowed)
        if why is None:
            self._uploads.add(self._session, more)
            self._reserved = count
        return why

    def end(self) -> None:
        """It no longer arrives."""
        if self._reserved:
            self._uploads.add(self._session, -self._reserved)
        self._reserved = 0


def _allowed() -> dict[str, int]:
    found, most = settings.get(homes.folder()), limits.total_memory() // SHARE
    return {kind: min(most, found[f"upload_{kind}_mb"] * 10**6) for kind in NAMES}


def _sentence(kind: str, most: int, taken: int, count: int) -> str:
    size = homes.size_text
    left = f"{size(taken)} of them are in use and this needs {size(count)} more"
    return (
        f"{NAMES[kind]} may hold {size(most)} of uploads; {left}: remove files from the page, or "
        "close pages that hold some"
    )


def _named(states) -> set[str]:
    """Ids of the files that widgets hold, of Streamlit's WidgetState messages."""
    held = [each for each in states if each.WhichOneof("value") == "file_uploader_state_value"]
    return {
        info.file_id for each in held for info in each.file_uploader_state_value.uploaded_file_info
    }


def _manager():
    return Runtime.instance().uploaded_file_mgr
