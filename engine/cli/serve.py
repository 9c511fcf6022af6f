"""The command that serves a finished run over HTTP."""

from typing import Annotated

import typer

from engine import home as homes
from engine.cli.options import Home, RunId, app
from engine.cli.runs import say
from engine.runs import runs


@app.command()
def serve(
    run: RunId,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; 0.0.0.0 lets other hosts in, and there is no sign-in."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8600,
    max_file_mb: Annotated[
        float, typer.Option(help="Largest image file, in megabytes.", min=0.01, max=200)
    ] = 20,
    max_files: Annotated[int, typer.Option(help="Most files in a request.", min=1, max=1000)] = 32,
    max_request_mb: Annotated[
        float, typer.Option(help="Largest request, in megabytes.", min=0.01, max=10_000)
    ] = 100,
    rate: Annotated[
        int, typer.Option(help="Requests a minute from one address; 0 for any number.", min=0)
    ] = 120,
    home: Home = None,
):
    """Serve a finished run over HTTP: images in, labels out, as JSON. Ctrl-C ends it."""
    from engine.images import decode
    from engine.predict.classifier import Classifier
    from engine.serve import app as serving
    from engine.serve import limits, page

    decode.separate_memory()  # before any thread allocates
    classifier = Classifier(runs.get_run(homes.home(home), run))
    bounds = limits.Bounds(int(max_file_mb * 1e6), max_files, int(max_request_mb * 1e6), rate)
    listening = serving.listen(host, port)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    say(f"Serving run {classifier.run.id} at {address} (what can be called: {address}/docs)")
    say(f"Try it: {page.example(address)}")
    if host not in ("127.0.0.1", "localhost", "::1"):
        say(
            "Whoever reaches this host can call it: there is no sign-in and no encryption.",
            "yellow",
        )
    serving.serve(serving.application(classifier, bounds), listening)
    say("Stopped.")
