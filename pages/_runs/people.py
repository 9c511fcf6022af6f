"""Users on the Runs page, for admins: roles, new users, new passwords."""

import time

import streamlit as st

from engine import actions as gate
from engine.accounts import users
from pages._ui import clicks, common, who

PLACE = "users"


def section() -> None:
    """A folded list of users with buttons; nothing for others than admins."""
    if not who.may("change users"):
        return
    with st.expander("Users", key="users"):
        if not who.accounts():
            st.caption(
                "There are no accounts, so Graft listens on this host only, and whoever opens it "
                "may do everything. Create the first account with this command:"
            )
            st.code("python -m engine users add NAME --role admin", language=None)
            return
        st.caption(
            "Viewers test models. Trainers also prepare datasets and train runs of their own. "
            "Admins may do everything. Changes apply from the next click."
        )
        common.show_error(PLACE)
        _new_password()
        for user in users.listed(common.home()):
            _row(user)
        _add()


def _kept() -> dict:
    return st.session_state.setdefault("made_password", {})


def _new_password():
    """The password that was just made, until it was noted: it cannot be read again."""
    kept = _kept()
    if not kept:
        return
    with st.container(border=True, key="made_password_box"):
        name = common.plain(kept["name"])
        st.markdown(f"**Password of {name}**. It is shown only here: pass it on to {name}.")
        st.code(kept["password"], language=None)
        if st.button("I have noted it", key="noted", icon=":material/check:"):
            kept.clear()
            st.rerun()


def _row(user):
    when = time.strftime("%Y-%m-%d", time.localtime(user.created))
    about = [f"since {when}"] + ([common.plain(user.email)] if user.email else [])
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{common.plain(user.name)}**  \n:gray[:small[{', '.join(about)}]]")
        # The key contains the role: if another page changes it, the widget shows that.
        key = f"role_{user.name}@{user.role}"
        st.selectbox(
            "Role",
            users.ROLES,
            users.ROLES.index(user.role),
            key=key,
            width=130,
            label_visibility="collapsed",
            on_change=_set_role,
            args=(user, key),
        )
        if user.password:
            with st.popover("New password", icon=":material/key:"):
                st.markdown("Replace the password with a random one, and end all sessions?")
                st.button(
                    "Replace it",
                    key=f"password_{user.name}",
                    on_click=clicks.once,
                    args=(PLACE, clicks.drawing(), _reset, _kept(), user.name, who.name()),
                )
        with st.popover("Remove", icon=":material/person_remove:"):
            st.markdown("Remove this user? Runs and datasets stay, under the same name.")
            st.button(
                "Remove",
                key=f"remove_{user.name}",
                on_click=clicks.once,
                args=(
                    PLACE, clicks.drawing(), gate.remove_user, common.home(), user.name, who.name(),
                ),
            )  # fmt: skip


def _set_role(user, key):
    wanted = st.session_state[key]
    st.session_state[key] = user.role  # a refused role does not stay in the field
    clicks.do(PLACE, gate.set_role, common.home(), user.name, wanted, who.name())


def _reset(kept, name, user):
    password = users.new_password()
    gate.set_password(common.home(), name, password, user)
    kept.update(name=name, password=password)


def _add():
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input("New user", key="user_name", max_chars=40, width=200)
        st.selectbox("Role", users.ROLES, key="user_role", width=130)
        st.text_input(
            "E-mail address (optional)",
            key="user_email",
            width=260,
            help="For a user who signs in at your OpenID provider: the address there.",
        )
        st.button(
            "Add",
            key="user_add",
            icon=":material/person_add:",
            on_click=_clicked,
            args=(clicks.drawing(),),
        )


def _clicked(drawn):
    # Read the fields now, so that the latest input counts.
    name, role, email = (st.session_state[f"user_{field}"] for field in ("name", "role", "email"))
    clicks.once(PLACE, drawn, _create, _kept(), name.strip(), role, email.strip(), who.name())


def _create(kept, name, role, email, user):
    password = users.new_password()
    gate.add_user(common.home(), name, role, password, email or None, who=user)
    kept.update(name=name, password=password)
    st.session_state.update(user_name="", user_email="")  # ready for the next user
