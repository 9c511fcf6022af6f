"""The shell around every page: page config, navigation and the rail.

`app.py` runs this file for every address; a file of `pages/` run alone has no navigation.
"""

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # Streamlit puts only this script's own folder there
    sys.path.insert(0, str(ROOT))

from pages._ui import address, clicks, common, who

st.set_page_config(page_title="Graft", page_icon=common.mark(), layout="wide")


def start() -> None:
    """The root address leads to the first page and keeps the parameters of a link.

    For viewers, the first page that they can use is Test.
    """
    first = "dataset.py" if who.may("prepare a dataset") else "test.py"
    st.switch_page(first, query_params=st.query_params.to_dict())


PAGES = [
    # A default page answers only at the root: the root has its own hidden page, so that /dataset
    # is an address too.
    st.Page(start, default=True, visibility="hidden"),
    st.Page(
        "dataset.py",
        title="Dataset",
        icon=":material/photo_library:",
        help="Choose labelled images and look at what the network will see.",
    ),
    st.Page(
        "configure.py",
        title="Configure",
        icon=":material/tune:",
        help="Set up the recipe: backbone, stages, learning rate.",
    ),
    st.Page(
        "train.py",
        title="Train",
        icon=":material/model_training:",
        help="Start a run and watch it train; pause or stop it at any time.",
    ),
    st.Page(
        "test.py",
        title="Test",
        icon=":material/center_focus_strong:",
        help="Try a trained classifier on your own images.",
    ),
    st.Page(
        "runs.py",
        title="Runs",
        icon=":material/history:",
        help="Every run with its results, charts and recipe.",
    ),
]

with common.guard():  # first, so that nothing interrupts what the browser's Back asks for
    address.load()
page = st.navigation(PAGES, expanded=True)
clicks.on_page(page.url_path)
with st.sidebar:
    common.rail(address.hear, address.unheard())
with common.guard():
    common.read_only_notice()
    # Before the page, so that leaving it half drawn loses nothing; and again after it, even after
    # an error, for what the page itself has filled in.
    address.keep()
    page.run()
address.keep()
