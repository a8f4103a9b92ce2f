"""What a window looked like, small: bars before and after as SVG, as PNG for mail, and as a line of text."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from html import escape

from modelyard.monitoring.alerts.alert import Alert

WIDTH, HEIGHT = 448, 150
BEFORE, AFTER = (0x8A, 0x94, 0xA6), (0xD9, 0x62, 0x2B)
MOST_BARS = 64

Shares = Sequence[tuple[str, float, float]]
"""Label, share before, share after."""

_LEVELS = "▁▂▃▄▅▆▇█"


def shares(alert: Alert) -> tuple[str, Shares]:
    """Which of its parts can be drawn, and its shares; an empty text and none where there is none.

    Drawn is the first part whose watch put ``details["plot"]``: a list of (label, before, after).
    """
    for part in alert.parts:
        given = part.details.get("plot")
        if isinstance(given, list | tuple) and given:
            bars = [(str(label), _share(before), _share(after)) for label, before, after in given[:MOST_BARS]]
            return part.subject or part.watch, bars
    return "", ()


def _share(value: float) -> float:
    return value if 0 <= value <= 1e300 else 0.0


def line(values: Sequence[float], top: float) -> str:
    """Values as a line of blocks, the highest for `top`.

    >>> line([0.0, 0.2, 0.4], 0.4)
    '▁▅█'
    """
    if top <= 0:
        return _LEVELS[0] * len(values)
    return "".join(_LEVELS[min(int(value / top * len(_LEVELS)), len(_LEVELS) - 1)] for value in values)


def lines(found: Shares) -> tuple[str, str]:
    """Before and after as two lines of blocks, on one scale."""
    top = _top(found)
    return line([before for _, before, _ in found], top), line([after for _, _, after in found], top)


def svg(found: Shares) -> str:
    """Bars before and after, side by side, each with what it stands for on pointing at it."""
    top, step = _top(found) or 1.0, WIDTH / max(len(found), 1)
    drawn = []
    for place, (label, before, after) in enumerate(found):
        bars = "".join(
            f'<rect fill="#{bytes(color).hex()}" x="{(place + offset) * step:.1f}" width="{step * 0.4:.1f}" '
            f'y="{HEIGHT * (1 - share / top):.1f}" height="{HEIGHT * share / top:.1f}"/>'
            for color, share, offset in ((BEFORE, before, 0.08), (AFTER, after, 0.5))
        )
        said = f"{_printable(label)}: {before:.2%} before, {after:.2%} after"
        drawn.append(f"<g><title>{escape(said)}</title>{bars}</g>")
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
    return f"{head}{''.join(drawn)}</svg>"


def png(found: Shares) -> bytes:
    """The same bars as an image: mail programs show no SVG."""
    top, step = _top(found) or 1.0, WIDTH / max(len(found), 1)
    colors = [(0xFF, 0xFF, 0xFF)] * WIDTH
    heights = [0.0] * WIDTH
    for place, (_, before, after) in enumerate(found):
        for color, share, offset in ((BEFORE, before, 0.08), (AFTER, after, 0.5)):
            for x in range(round((place + offset) * step), max(round((place + offset + 0.4) * step), 1)):
                if x < WIDTH:
                    colors[x], heights[x] = color, HEIGHT * share / top
    rows = []
    for y in range(HEIGHT):
        ground = HEIGHT - y
        row = (colors[x] if heights[x] >= ground - 0.5 else (0xFF, 0xFF, 0xFF) for x in range(WIDTH))
        rows.append(b"\0" + bytes(value for color in row for value in color))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    parts = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(b"".join(rows), 9)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _top(found: Shares) -> float:
    return max((max(before, after) for _, before, after in found), default=0.0)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
