"""The app opened by AppTest, and what is on its page."""

import functools
import re
import shutil
import tempfile
from pathlib import Path

from streamlit.components.v2 import manifest_scanner
from streamlit.runtime.scriptrunner import script_runner
from streamlit.testing.v1 import AppTest

from engine import home as homes
from engine import load_preset
from engine.data import datasets, prepare_worker
from tests.support import ROOT

SHELL = str(ROOT / "pages" / "_shell.py")  # on the st.App file an AppTest passes with an empty tree

# Each AppTest looks through all installed packages for components: half the time of a page.
manifest_scanner.scan_component_manifests = functools.cache(
    manifest_scanner.scan_component_manifests
)
# Where Keras is loaded, as by other tests and never in Graft's server, each rerun would clear it.
script_runner._clean_problem_modules = lambda: None


def open_page(name, **query):
    """The app at a page's address."""
    app = AppTest.from_file(SHELL, default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    app.switch_page(f"{name}.py").run()
    assert not app.exception, app.exception
    return app


def prepared(home, name="sample"):
    """A preset's dataset, prepared in a home; the work is done once for all homes."""
    done = Path(_prepared_once(name).name) / "datasets"
    shutil.copytree(done, home / "datasets", dirs_exist_ok=True)
    return datasets.open_dataset(load_preset(name).dataset, home)


@functools.cache
def _prepared_once(name):
    place = tempfile.TemporaryDirectory(prefix="graft-prepared-")  # deleted when Python ends
    prepare_worker.ingest(load_preset(name).dataset, homes.home(place.name))
    return place


def as_read(text) -> str:
    """Markdown as a reader sees it, but for what is bold, coloured or a link."""
    return re.sub(r"\\(?=[^a-zA-Z0-9\s])", "", text).replace("\u2060", "")


def said(app):
    """All that is written on the page, as it is read."""
    kinds = (
        app.title,
        app.subheader,
        app.markdown,
        app.caption,
        app.info,
        app.error,
        app.warning,
        app.success,
    )
    return as_read("\n".join(item.value for kind in kinds for item in kind))


def button(app, label):
    """The button with a label."""
    return next(item for item in app.button if item.label == label)


def from_source(app, name):
    """The page with images from another source."""
    control = next(item for item in app.button_group if item.label == "Images from")
    control.set_value(name).run()
    assert not app.exception, app.exception
    return app
