"""The endpoint's documentation page, built from its OpenAPI document.

FastAPI's own page loads scripts from a public server, but Graft works without a network. This page
has no scripts: it lists the calls with their parameters and responses, and a form to try them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto;
  padding: 0 1rem; color: #1c2b2a; background: #fff }
h1, h2 { line-height: 1.2 }
h2 { margin-top: 2.5rem; border-top: 1px solid #ccd6d4; padding-top: 1rem }
code, pre { font: 14px/1.5 ui-monospace, monospace; background: #eef4f2 }
pre { padding: .75rem; overflow-x: auto } table { border-collapse: collapse }
td, th { padding: .25rem 1rem .25rem 0; text-align: left; vertical-align: top }
@media (prefers-color-scheme: dark) {
  body { color: #e4ecea; background: #14201f } code, pre { background: #22312f }
}
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}
"""Of the page, beside those of every answer (`engine.serve.gate.HEADERS`): it has one style, no
script, and a form that sends to this endpoint."""


def page(schema: dict) -> str:
    """The HTML page of an OpenAPI document."""
    info = {key: escape(schema["info"][key]) for key in ("title", "description", "version")}
    parts = [
        f"<h1>{info['title']}</h1><p>{info['description']} Run {info['version']}.</p>",
        "<h2>Try it</h2><form action='/classify' method='post' enctype='multipart/form-data'>"
        "<label>Images <input type='file' name='files' multiple required accept='image/*'></label> "
        "<button>Classify</button></form>",
        f"<pre>{escape(example('http://HOST:PORT', 'security' in schema))}</pre>",
    ]
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(path, method, operation, schema))
    parts.append("<p>For programs: <a href='/openapi.json'>openapi.json</a></p>")
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f"<title>{info['title']}</title><meta name='viewport' content='width=device-width'>"
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def example(address: str, key: bool = False) -> str:
    """A command that calls the endpoint from a shell.

    Args:
        address: of the endpoint, such as "http://127.0.0.1:8600".
        key: whether it needs one.
    """
    header = "-H 'Authorization: Bearer KEY' " if key else ""
    return f"curl {header}-F files=@photo.jpg -F files=@another.jpg {address}/classify"


def _operation(path: str, method: str, operation: dict, schema: dict) -> str:
    """One call, with its parameters and responses."""
    summary, text = (escape(operation.get(key, "")) for key in ("summary", "description"))
    parts = [
        f"<h2><code>{method.upper()} {escape(path)}</code></h2><p><b>{summary}.</b> {text}</p>"
    ]
    rows = [
        (each["name"], _limits(each["schema"]), each.get("description", ""))
        for each in operation.get("parameters", ())
    ]
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        rows += [(name, kind, "in the body") for name in body["schema"]["properties"]]
    if rows:
        parts.append(_table(("parameter", "type", "description"), rows))
    answers = []
    for code, answer in operation.get("responses", {}).items():
        content = answer.get("content", {}).get("application/json", {}).get("schema", {})
        answers.append((code, answer["description"], json.dumps(_sample(content, schema))))
    return "".join([*parts, _table(("status", "meaning", "response"), answers)])


def _table(head: Sequence[str], rows: Iterable[Sequence]) -> str:
    lines = [f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows]
    return f"<table><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>{''.join(lines)}</table>"


def _limits(kind: dict) -> str:
    """Type, bounds and default of a parameter."""
    words = [kind.get("type", "")]
    if "minimum" in kind:
        words.append(f"{kind['minimum']} to {kind['maximum']}")
    if "default" in kind:
        words.append(f"default {kind['default']}")
    return ", ".join(words)


def _sample(kind: dict, schema: dict):
    """The shape of a response: field names with their types."""
    if "$ref" in kind:
        return _sample(schema["components"]["schemas"][kind["$ref"].rsplit("/", 1)[1]], schema)
    if "anyOf" in kind:
        return " or ".join(str(_sample(each, schema)) for each in kind["anyOf"])
    if kind.get("type") == "array":
        return [_sample(kind["items"], schema)]
    if "properties" in kind:
        return {name: _sample(each, schema) for name, each in kind["properties"].items()}
    return kind.get("type", "any")
