"""QR codes: the dots that a page draws are those of the code."""

import base64
import math

import pytest
import segno

from engine.host import qr


@pytest.mark.parametrize("text", ["x", "http://192.168.1.20:8501/s/" + 43 * "a", "é" * 200])
def test_dots_are_those_of_the_code(text):
    packed = qr.dots(text)
    data = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
    bits = "".join(f"{byte:08b}" for byte in data)
    side = math.isqrt(len(bits))  # as pages/_share/wall.js does
    drawn = [int(bit) for bit in bits[len(bits) - side * side :]]
    matrix = segno.make(text, error="m", micro=False).matrix
    assert drawn == [bit & 1 for row in matrix for bit in row]
    assert qr.svg(text).startswith("<svg") and "█" in qr.terminal(text)
