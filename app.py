"""Graft's Streamlit app: `streamlit run app.py`.

Every address goes through `pages/_shell.py`, also a page that is opened directly.
"""

import asyncio
import contextlib
import gc
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

from engine import GraftError, home, roots
from engine.host import settings
from engine.images import memory
from engine.imports import imports
from engine.jobs import jobs
from engine.predict import batches, guest_images
from pages._gate import gate, origin, sessions, signing_in, start, uploads
from pages._share import routes as share
from pages._ui import common, pictures, who

# Before any thread allocates. From 128 kB on, because uploads arrive in pieces of that size, and
# this process decodes at most 12 images at a time.
memory.separate_memory(large=128 << 10)


CLEANUP_SECONDS = 30
"""How often freed memory is returned to the system."""


@contextlib.asynccontextmanager
async def memory_returned(_):
    """Collects ended sessions and returns their memory while the server runs.

    A session ends two minutes after its tab is closed, in reference cycles that keep its uploads in
    memory until they are collected.
    """

    async def clean_up():
        while True:
            await asyncio.sleep(CLEANUP_SECONDS)
            uploads.UPLOADS.release()
            gc.collect()
            memory.return_memory()

    uploads.UPLOADS.watch()
    task = asyncio.create_task(clean_up())
    try:
        yield {}
    finally:
        task.cancel()


# Streamlit adds server.baseUrlPath to its own routes only, so ours add it here.
BASE = st.get_option("server.baseUrlPath").strip("/")
BASE = f"/{BASE}" if BASE else ""
VENDOR = StaticFiles(directory=Path(plotly.__file__).parent / "package_data")

# Streamlit's own check of the websocket uses the same list.
HOSTS = origin.allowed_hosts()
config.set_option("server.allowedHosts", HOSTS)
config.set_option("server.trustedUserHeaders", who.HEADERS)

PROXIES = start.proxies(home.folder())
start.answer_at_once()
start.believe(PROXIES)
OTHERS = start.open_to_others(HOSTS, PROXIES)
start.check(home.folder(), OTHERS)
KNOWN = sessions.Sessions(alone=OTHERS is None)

# Before anything is read or started for a page.
roots.restrict(lambda: settings.reads(home.home(), loopback=OTHERS is None))

# After a restart of the host, this finds interrupted runs and starts waiting ones.
with contextlib.suppress(GraftError, OSError):  # if the home cannot be written, every page says so
    jobs.supervise(home.home())
    if not home.read_only(home.home()):
        batches.sweep(home.home())
        guest_images.sweep(home.home())
        imports.sweep(home.home())

app = st.App(
    ROOT / "pages" / "_shell.py",
    routes=[
        # Charts load Plotly's script once from the installed wheel, not from the network.
        Mount(f"{BASE}/vendor", VENDOR),
        Route(f"{BASE}{pictures.ADDRESS}/{{key}}/{{content}}", pictures.answer),
        Route(f"{BASE}/answers/{{key}}/{{row}}", pictures.of_batch),
        Route(f"{BASE}/marks/{{run}}/{{content}}", pictures.of_mark),
        *signing_in.SigningIn(BASE, KNOWN, start.provider()).routes(),
        *share.routes(BASE),
    ],
    middleware=[Middleware(gate.Gate, hosts=HOSTS, base=BASE, known=KNOWN)],
    lifespan=memory_returned,
    on_script_error=common.explain,
)
