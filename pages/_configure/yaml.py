"""The recipe as YAML: download it, upload one, or edit the text."""

import hashlib

import streamlit as st
import yaml

from engine.errors import RecipeError
from engine.host import words
from pages._ui import common, draft


def editor() -> None:
    """Download, upload and editor of the recipe as text, with the errors of the last text."""
    recipe = draft.recipe()
    text = recipe.to_yaml() if recipe else yaml.safe_dump(draft.data(), sort_keys=False)
    left, right = st.columns(2)
    with left:
        st.download_button(
            "Download the recipe",
            text,
            f"{words.file_name(str(draft.get('name'))) or 'recipe'}.yaml",
            "application/yaml",
            on_click="ignore",
            key="download_recipe",
            icon=":material/download:",
        )
    with right:
        # A new key after each upload: the same file may be fixed and uploaded again.
        key = f"recipe_file@{st.session_state.setdefault('uploads', 0)}"
        st.file_uploader(
            "Upload a recipe",
            type=["yaml", "yml"],
            key=key,
            on_change=_upload,
            args=(key,),
            max_upload_size=1,
        )
    for path, sentence in st.session_state.get("yaml_problems", {}).items():
        if path:
            text = f"**{common.plain(path)}** {common.plain(sentence)}."
            st.error(text, icon=":material/error:")
        else:
            common.fail(sentence)
    # Keyed by the text: a change to the recipe elsewhere shows here immediately.
    key = "yaml@" + hashlib.sha256(text.encode()).hexdigest()[:12]
    st.text_area("Recipe", text, key=key, height=420, label_visibility="collapsed")
    st.button(
        "Apply the text", key="apply_yaml", icon=":material/check:", on_click=_apply, args=(key,)
    )


def _apply(key):
    _use(st.session_state[key])


def _upload(key):
    file = st.session_state.get(key)
    if file is None:
        return
    st.session_state["uploads"] += 1
    try:
        text = file.getvalue().decode("utf-8")
    except UnicodeDecodeError:
        st.session_state["yaml_problems"] = {"": "the file is not text; a recipe is YAML"}
        return
    _use(text)


def _use(text):
    try:
        draft.use_text(text)
        st.session_state["yaml_problems"] = {}
    except RecipeError as error:
        st.session_state["yaml_problems"] = error.problems
