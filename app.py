"""Graft's Streamlit app: `streamlit run app.py`.

The pages live behind `pages/_shell.py`, so that every address, cold ones too, goes through it.
"""

import asyncio
import contextlib
import gc
import logging
import sys
from pathlib import Path

import plotly
import streamlit as st
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from streamlit import config

ROOT = Path(__file__).resolve().parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from engine import (
    GraftError,
    home,
)
from engine.images import memory
from engine.jobs import jobs
from engine.predict import batches
from pages import _origin
from pages._ui import (
    common,
    pictures,
)

# Before any thread allocates. From as little as 128 kB on: uploads arrive in such pieces, and no more
# than a dozen images are decoded here at a time.
memory.separate_memory(large=128 << 10)


def explain(error: Exception) -> bool:
    """Shows one sentence for whatever a page did not expect; the traceback goes to the log."""
    logging.getLogger("graft").error("a page failed", exc_info=error)
    if isinstance(error, GraftError):
        common.fail(error)
    else:
        st.error(
            f"This page met something it did not expect ({type(error).__name__}); the server's log "
            "says more. Nothing you trained is lost: reload the page to go on.",
            icon=":material/error:",
        )
    return True


TIDIED = 30
"""Seconds between two times at which memory that was let go of is given back to the system."""


@contextlib.asynccontextmanager
async def tidied(_):
    """While the server runs: a session ends two minutes after its tab was closed, in rings of objects
    that hold its uploads until they are looked for."""

    async def tidy():
        while True:
            await asyncio.sleep(TIDIED)
            gc.collect()
            memory.return_memory()

    task = asyncio.create_task(tidy())
    try:
        yield {}
    finally:
        task.cancel()


# Streamlit puts server.baseUrlPath before its own routes only; ours needs it said.
BASE = st.get_option("server.baseUrlPath").strip("/")
BASE = f"/{BASE}" if BASE else ""
VENDOR = StaticFiles(directory=Path(plotly.__file__).parent / "package_data")

# After a restart of the host, what was broken off is found, and what waited begins.
with contextlib.suppress(GraftError):  # a home that cannot be written: every page says so
    jobs.supervise(home.home())
    batches.sweep(home.home())

# Streamlit's own check of the websocket goes by the same list.
HOSTS = _origin.allowed_hosts()
config.set_option("server.allowedHosts", HOSTS)

app = st.App(
    ROOT / "pages" / "_shell.py",
    routes=[
        # Charts load Plotly's script once from the installed wheel, not from the network.
        Mount(f"{BASE}/vendor", VENDOR),
        Route(f"{BASE}{pictures.ADDRESS}/{{key}}/{{content}}", pictures.answer),
        Route(f"{BASE}/answers/{{key}}/{{row}}", pictures.of_batch),
        Route(f"{BASE}/marks/{{run}}/{{content}}", pictures.of_mark),
    ],
    middleware=[Middleware(_origin.OwnPagesOnly, hosts=HOSTS)],
    lifespan=tidied,
    on_script_error=explain,
)
