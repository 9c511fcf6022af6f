"""An open page on another computer: a browser's requests to the server, without a browser's work.

python -m benchmarks.viewer ADDRESS PAGE QUERY    # until its input ends; then prints its counts

It speaks Streamlit's protocol (streamlit/proto/ForwardMsg.proto and BackMsg.proto of the installed
version): it requests the page, runs each fragment again at the interval given by the server, and
receives everything. It keeps no cache of messages, so the server sends it slightly more than a
browser.
"""

import asyncio
import json
import sys
import time

import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg


class Viewer:
    """One session; counts what it receives."""

    def __init__(self, socket, page, query):
        self.socket, self.page, self.query = socket, page, query
        self.script, self.timers, self.found = "", {}, {"messages": 0, "bytes": 0, "reruns": 0}

    async def ask(self, fragment="") -> None:
        """Requests a run of the page, or of one of its fragments."""
        message = BackMsg()
        state = message.rerun_script
        state.page_name, state.query_string = self.page, self.query
        state.page_script_hash = self.script
        state.fragment_id, state.is_auto_rerun = fragment, bool(fragment)
        await self.socket.send(message.SerializeToString())

    async def again(self, fragment, interval) -> None:
        """Runs a fragment repeatedly, as the page's timer does."""
        while True:
            await asyncio.sleep(interval)
            self.found["reruns"] += 1
            await self.ask(fragment)

    async def watch(self) -> None:
        """Receives messages until the connection ends."""
        await self.ask()
        async for data in self.socket:
            message = ForwardMsg()
            message.ParseFromString(data)
            self.found["messages"] += 1
            self.found["bytes"] += len(data)
            kind = message.WhichOneof("type")
            if kind == "new_session":
                self.script = message.new_session.page_script_hash
            elif kind == "auto_rerun":
                wanted = message.auto_rerun
                self.end(wanted.fragment_id)
                self.timers[wanted.fragment_id] = asyncio.create_task(
                    self.again(wanted.fragment_id, wanted.interval)
                )
            elif kind == "stop_auto_rerun":
                self.end(*message.stop_auto_rerun.fragment_ids)

    def end(self, *fragments) -> None:
        """Stops the timers of fragments, or all."""
        for name in fragments or list(self.timers):
            timer = self.timers.pop(name, None)
            if timer:
                timer.cancel()


async def main(address, page, query) -> None:
    url = address.replace("http", "ws", 1) + "/_stcore/stream"
    begun = time.time()
    options = {"origin": address, "subprotocols": ["streamlit"], "max_size": None}
    async with websockets.connect(url, **options) as socket:
        viewer = Viewer(socket, page, query)
        watching = asyncio.create_task(viewer.watch())
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        viewer.end()
        if watching.done():
            watching.result()  # raises what ended it
            raise SystemExit("the server ended the connection")
        watching.cancel()
    print(json.dumps(viewer.found | {"seconds": time.time() - begun}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
