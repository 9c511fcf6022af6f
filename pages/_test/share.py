"""The Share tab of the Test page: links for guests, their walls, and the images that they sent."""

import base64
import time
from urllib.parse import urlsplit

import streamlit as st

from engine import actions
from engine import home as homes
from engine.accounts import shares
from engine.host import qr, words
from engine.predict import guests
from pages._test import cards
from pages._ui import clicks, common, live_chart, who
from pages._ui.grid import grid

PLACE = "share"
FIELDS = {
    "hours": "share_hours",
    "uses": "share_uses",
    "collect": "share_keep",
    "wall": "share_wall",
}


def show(run) -> None:
    """Creates links to a run, lists them, and shows the guests' images."""
    st.caption(
        "Guests open a link on their phones, take a photo and read the answer. They need no "
        "account, and they reach nothing else of Graft."
    )
    user = who.name()
    if who.may("share a run", run.owner):
        _form(run, user)
    else:
        st.caption(":material/info: Only its owner and admins can share this run.")
    common.show_error(PLACE)
    for link in actions.shared(homes.home(), run, user):
        with st.container(border=True):
            _link(link, user)
    _images(run, user)


# -- links -----------------------------------------------------------------------------------------


def _form(run, user):
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.number_input("Hours", 1, shares.MOST_HOURS, shares.HOURS, key=FIELDS["hours"], width=130)
        st.number_input(
            "Images",
            1,
            shares.MOST_USES,
            shares.USES,
            key=FIELDS["uses"],
            width=130,
            help="How many images the link takes, of all guests together.",
        )
        st.checkbox(
            "Keep the images",
            key=FIELDS["collect"],
            help="They appear below, without where and when they were taken. The guests are told. "
            "Otherwise images and answers stay in memory only.",
        )
        st.checkbox(
            "Wall",
            key=FIELDS["wall"],
            help="A page for a big screen that shows the guests' photos with the answers, live.",
        )
        st.button(
            "Create a link",
            key="share_create",
            icon=":material/qr_code_2:",
            type="primary",
            on_click=clicks.once,
            args=(PLACE, clicks.drawing(), _create, _tokens(), run, user),
        )


def _create(tokens, run, user):
    # Read first: an interruption is harmless as long as nothing is done.
    chosen = {name: st.session_state[key] for name, key in FIELDS.items()}
    link, token, wall = actions.share(run, user, **chosen)
    tokens[link.id] = (token, wall)


def _tokens() -> dict:
    """The secrets of the links that this session created: Graft itself keeps only their hash."""
    return st.session_state.setdefault("shared", {})


def _link(link, user):
    until = time.strftime("%d %b %H:%M", time.localtime(link.expires))
    facts = [f"**{link.used:,} of {words.plural(link.uses, 'image')}**"]
    facts.append(f"until {until}" if link.expires > time.time() else ":orange[expired]")
    facts += [
        text for text, true in (("keeps the images", link.collect), ("wall", link.wall)) if true
    ]
    facts += [f"by {common.plain(link.by)}"] if link.by != user else []
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(" · ".join(facts))
        if link.wall and st.button(
            "Wall pictures", key=f"wall_{link.id}", icon=":material/grid_view:"
        ):
            _wall(link, user)
        st.button(
            "Revoke",
            key=f"revoke_{link.id}",
            icon=":material/link_off:",
            on_click=clicks.once,
            args=(PLACE, clicks.drawing(), actions.revoke_share, homes.home(), link.id, user),
        )
    if link.id in _tokens():
        _code(*_tokens()[link.id])
    else:
        st.caption(
            "The link itself is shown only where it was created; create another if it is lost."
        )


def _code(token, wall):
    base = _address()
    guest, big = guests.links(base, token, wall)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.image(qr.svg(guest), width=220, alt="QR code of the link")
        with st.container(width=420):
            st.code(guest, language=None, wrap_lines=True)
            if big:
                st.link_button("Open the wall", big, icon=":material/tv:")
            if near := guests.unreachable(base):
                st.warning(common.plain(common.sentence(near)), icon=":material/phonelink_off:")


def _address() -> str:
    """Under which this browser reaches Graft, such as "http://192.168.1.20:8501"."""
    found = urlsplit(st.context.url or f"http://{st.context.headers.get('Host', 'localhost')}")
    return f"{found.scheme}://{found.netloc}{live_chart.base()}"


@st.dialog("On the wall", width="large")
def _wall(link, user) -> None:
    """The pictures that hang there now, to take some down."""
    hung = guests.on_wall(link.id)
    if not hung:
        st.caption("No answers are on the wall. It shows the last ones since Graft was started.")
        return
    tiles = [
        {
            "id": number,
            "src": "data:image/jpeg;base64," + base64.b64encode(each.picture).decode(),
            "caption": each.reply.heading,
            "note": each.reply.word,
            "alt": each.reply.heading,
            "title": each.reply.heading,
        }
        for number, each in enumerate(hung)
    ]
    chosen = grid(tiles, f"hung_{hung[0].id}_{len(hung)}")
    ids = {hung[number].id for number in chosen}
    with st.container(horizontal=True):
        for text, key, which in (
            (f"Take down {words.plural(len(ids), 'picture')}", "take_down", ids),
            ("Clear the wall", "clear_wall", None),
        ):
            if which == set():
                continue
            if st.button(text, key=key, icon=":material/delete:"):
                clicks.do(PLACE, actions.clear_wall, link, homes.home(), which, user)
                st.rerun(scope="fragment")
    common.show_error(PLACE)


# -- images ----------------------------------------------------------------------------------------


def _images(run, user):
    found = actions.guest_images(run, user)
    if not found:
        return
    st.subheader("Guests' images", anchor=False)
    st.caption(
        f"{words.plural(len(found), 'image')} that guests sent, without labels. **Look closer** at "
        "one to mark its answer as correct or wrong: marked images can be added to a dataset."
    )
    for owner in sorted({image.by for image in found}):
        count = words.plural(sum(image.by == owner for image in found), "image")
        whose = "" if owner == user else f" of {common.plain(owner)}"
        st.button(
            f"Delete {count}{whose}",
            key=f"delete_guests_{owner}",
            icon=":material/delete:",
            on_click=clicks.once,
            args=(PLACE, clicks.drawing(), actions.delete_guest_images, run, owner, user),
        )
    cards.show(run, None, [(image.name, image.path, None) for image in found])
