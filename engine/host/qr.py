"""QR codes of addresses, as a picture, for a terminal, and as dots for a page that draws them."""

from __future__ import annotations

import base64
import io

import segno


def svg(text: str, scale: int = 6) -> str:
    """A QR code as an SVG picture, black on white in a dark page too: cameras need the contrast.

    Args:
        text: what it holds, such as an address.
        scale: pixels of each dot.
    """
    return _code(text).svg_inline(scale=scale, light="#fff", omitsize=False)


def terminal(text: str) -> str:
    """A QR code in characters of a terminal, two rows of dots a line."""
    out = io.StringIO()
    _code(text).terminal(out, compact=True)
    return out.getvalue()


def dots(text: str) -> str:
    """The dots of a QR code, row after row, a bit each (dark is 1): URL-safe base64.

    Their number is a square, so a script needs nothing else to draw it.
    """
    bits = "".join(str(bit & 1) for row in _code(text).matrix for bit in row)
    side = len(bits)
    packed = int(bits, 2).to_bytes(-(-side // 8), "big")
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _code(text: str) -> segno.QRCode:
    # M corrects 15% of the dots, enough for a screen (ISO/IEC 18004).
    return segno.make(text, error="m", micro=False)
