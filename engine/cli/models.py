"""Commands about models: backbones, export, serve, import."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from engine import actions
from engine import home as homes
from engine.cli.options import AsJson, Home, RunId, json_out, path_of, table
from engine.cli.runs import date
from engine.cli.terminal import progress, say
from engine.errors import GraftError
from engine.exports import background, card, exports, formats
from engine.host import addresses, words
from engine.runs import runs


def backbones(json_: AsJson = False) -> None:
    """List the backbones, with parameters and ImageNet accuracy."""
    from engine.models import backbones

    found = backbones.catalogue()
    if json_:
        return json_out([asdict(b) for b in found])
    table(
        ["backbone", "parameters", "image size", "ImageNet top-1", "weights"],
        [
            [
                b.name,
                f"{b.params:,}",
                b.image_size,
                "" if b.top1 is None else words.percent(b.top1 / 100),
                f"{b.weights_mb:g} MB",
            ]
            for b in found
        ],
    )


def export(
    run: RunId,
    format: Annotated[str, typer.Option(help=f"One of {', '.join(formats.FORMATS)}.")],
    precision: Annotated[
        str,
        typer.Option(help="Of LiteRT: float32, float16 (smaller file, same answers) or int8."),
    ] = "float32",
    output: Annotated[
        Path | None,
        typer.Option(help="Copy the zip into this folder; the run keeps its own.", parser=path_of),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Export again even if the run has this export.")
    ] = False,
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """Export a finished run, with a certificate that it gives the same answers.

    The last line is the zip's path. Exit code 1 if the answers differ.
    """
    folder = homes.home(home)
    found = _exported(runs.get_run(folder, run), format, folder, precision, again)
    if output:
        found = exports.copy_to(found, output)
    certificate = found["certificate"]
    if json_:
        json_out(found)
    else:
        say(card.one_line(certificate), None if certificate["agrees"] else "red")
        print(found["path"])
    if not certificate["agrees"]:
        raise typer.Exit(1)


def _exported(run, format, home, precision, again) -> dict:
    """The export, made by another process; Ctrl-C ends that too."""
    actions.export(run, format, precision, again)
    try:
        with progress("Starting") as show:
            return background.wait(
                run,
                format,
                home,
                precision,
                lambda now: show(now["done"], now["total"], now["text"]),
            )
    except KeyboardInterrupt:
        actions.cancel_export(run, format, precision)
        raise GraftError("the export was cancelled; nothing of it is left") from None


def import_model(
    path: Annotated[
        Path,
        typer.Argument(help="A run folder, a zip of one, or a .keras file.", parser=path_of),
    ],
    name: Annotated[str | None, typer.Option(help="Name of the new run.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="For a .keras file: a text file with one class name a line, in the order of the "
            "model's outputs.",
            parser=path_of,
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            help="For a .keras file that accepts any image size: pixels.", min=32, max=1024
        ),
    ] = None,
    preprocessing: Annotated[
        str,
        typer.Option(
            help="For a .keras file: the scaling of pixels that it expects. included: none, it "
            "takes 0 to 255 and scales them itself; tf: -1 to 1; torch: 0 to 1, minus ImageNet's "
            "mean, divided by its deviation; caffe: blue first, minus ImageNet's mean."
        ),
    ] = "included",
    home: Home = None,
) -> None:
    """Import a model as a run, checked in a separate process. The last line is the run id."""
    from engine.imports import imports

    names = imports.read_labels(labels) if labels else None
    with progress("Reading the files") as show:
        imported = actions.import_run(
            path,
            homes.home(home),
            name,
            report=lambda text, done=0, total=None, *_: show(done, total, text),
            labels=names,
            image_size=image_size,
            preprocessing=preprocessing,
        )
    for note in imported.notes:
        say(note, "yellow")
    say(f"To classify with it: python -m engine predict {imported.run.id} IMAGE")
    print(imported.run.id)


def serve(
    run: RunId,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; 0.0.0.0 accepts other hosts: use --keys then."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8600,
    keys: Annotated[
        bool, typer.Option("--keys", help="Answer only with a key (see the command keys).")
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="Another name people reach it under, as graft.example. Can be repeated."),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Address or network of a proxy in front: clients are distinguished by its "
            "X-Forwarded-For. Can be repeated."
        ),
    ] = None,
    max_file_mb: Annotated[
        float, typer.Option(help="Largest image file, in megabytes.", min=0.01, max=200)
    ] = 20,
    max_files: Annotated[int, typer.Option(help="Most files in a request.", min=1, max=1000)] = 32,
    max_request_mb: Annotated[
        float, typer.Option(help="Largest request, in megabytes.", min=0.01, max=10_000)
    ] = 100,
    rate: Annotated[
        int, typer.Option(help="Requests a minute from one client; 0 for no limit.", min=0)
    ] = 120,
    home: Home = None,
) -> None:
    """Serve a finished run over HTTP: images in, labels out, as JSON. Ctrl-C ends it."""
    from engine.images import memory
    from engine.predict.classifier import Classifier
    from engine.serve import app as serving
    from engine.serve import keys as serving_keys
    from engine.serve import limits, page, server

    memory.separate_memory()  # before any thread allocates
    folder = homes.home(home)
    known = serving_keys.Keys(folder) if keys else None
    classifier = Classifier(runs.get_run(folder, run))
    bounds = limits.Bounds(int(max_file_mb * 1e6), max_files, int(max_request_mb * 1e6), rate)
    app = serving.application(classifier, bounds, [host, *(allowed_host or ())], known)
    made = server.server(app, trusted_proxy or ())
    listening = server.listen(host, port)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    say(f"Serving run {classifier.run.id} at {address} (API documentation: {address}/docs)")
    say(f"Try it: {page.example(address, keys)}")
    if host not in addresses.LOOPBACK:
        use = "" if keys else "Anyone who can reach this host can use it (--keys asks for a key). "
        say(f"{use}There is no encryption: put a server that encrypts in front.", "yellow")
    server.serve(made, listening)
    say("Stopped.")


def keys(
    action: Annotated[
        Literal["list", "create", "revoke"], typer.Argument(help="What to do.")
    ] = "list",
    name: Annotated[
        str | None, typer.Argument(help="The key's name, such as laptop; to create or revoke.")
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="What a new key is for: classify or about; both if not given."),
    ] = None,
    home: Home = None,
    json_: AsJson = False,
) -> None:
    """List, create or revoke the keys of serve --keys. A new key is printed once, as last line."""
    from engine.serve import keys as serving_keys

    folder = homes.home(home)
    if action == "list":
        found = serving_keys.listed(folder)
        if json_:
            return json_out([asdict(key) for key in found])
        return table(
            ["key", "for", "created"],
            [[words.shown(k.name), ", ".join(k.scopes), date(k.created)] for k in found],
        )
    if name is None:
        raise GraftError(f"give the name of the key: python -m engine keys {action} NAME")
    if action == "revoke":
        actions.revoke_key(folder, name)
        return say(f"Revoked {words.shown(name)}: the key is refused from now on.")
    key = actions.create_key(folder, name, scope or list(serving_keys.SCOPES))
    say("This is the only time that the key is shown; keep it in a safe place:")
    print(key)
