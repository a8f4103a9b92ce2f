"""The look of the pages that commands write: one file each, which needs nothing beside itself, in light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

_WIDTH, _HEIGHT = 448, 150
_LEFT, _FOOT = 84, 92
"""Room beside and below the bars, into which the longest label reaches, slanted as it is."""

_LONGEST = 22
_STYLE = """
:root { color-scheme: light dark; --before: #8a94a6; --after: #d9622b; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.5rem } h3 { font-size: 1rem; margin-top: 1.5rem }
table { border-collapse: collapse } th, td { text-align: left; padding: .15rem .9rem .15rem 0; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums } tr { border-bottom: 1px solid var(--line) }
figure { display: inline-block; margin: .5rem 1.5rem .5rem 0; width: 28rem; max-width: 100% }
figcaption { font-size: .85rem } .moved { font-weight: 600 }
svg { width: 100%; height: auto } text { font: 10px system-ui; fill: currentColor }
.before { fill: var(--before); background: var(--before) } .after { fill: var(--after); background: var(--after) }
.key i { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em }
"""


def page(title: str, body: Iterable[str], style: str = "") -> str:
    """A whole page: `title` is text, `body` parts of HTML, `style` what it needs besides the common look."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}{style}</style>'
        f"<h1>{escape(title)}</h1>{''.join(body)}</html>\n"
    )


def rows(headings: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """A table of texts and whole numbers.

    >>> rows(["file", "bytes"], [("<a>", 1000)])
    '<table><tr><th>file</th><th>bytes</th></tr><tr><td>&lt;a&gt;</td><td class="n">1,000</td></tr></table>'
    """
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(map(_cell, line)) + "</tr>" for line in lines)
    return f"<table><tr>{head}</tr>{body}</table>"


def plot(said: str, parts: Sequence[tuple[str, float, float]], *, strong: bool = False) -> str:
    """Bars of shares before and after, side by side: `parts` are (label, before, after), `said` goes below them."""
    top = max((max(before, after) for _, before, after in parts), default=0.0) or 1.0
    step = _WIDTH / max(len(parts), 1)
    bars = "".join(_bars(part, at * step, step, top) for at, part in enumerate(parts))
    return (
        f'<figure><svg viewBox="{-_LEFT} 0 {_LEFT + _WIDTH} {_HEIGHT + _FOOT}" role="img" '
        f'aria-label="{escape(_printable(said), quote=True)}">{bars}</svg>'
        f'<figcaption class="{"moved" if strong else ""}">{escape(said)}</figcaption></figure>'
    )


def _bars(part: tuple[str, float, float], left: float, step: float, top: float) -> str:
    label, before, after = part
    shares = f"{label}: {before:.2%} before, {after:.2%} after"
    drawn = "".join(
        f'<rect class="{name}" x="{left + offset * step:.1f}" y="{_HEIGHT * (1 - share / top):.1f}" '
        f'width="{step * 0.4:.1f}" height="{_HEIGHT * share / top:.1f}"/>'
        for name, share, offset in (("before", before, 0.08), ("after", after, 0.5))
    )
    middle = left + step / 2
    short = label if len(label) <= _LONGEST else label[: _LONGEST - 1] + "…"
    return (
        f"<g><title>{escape(_printable(shares))}</title>{drawn}"
        f'<text transform="translate({middle:.1f},{_HEIGHT + 12}) rotate(-40)" text-anchor="end">'
        f"{escape(_printable(short))}</text></g>"
    )


def _printable(text: str) -> str:
    """Fit for SVG, in which control characters may not be."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _cell(value: Any) -> str:
    return f'<td class="n">{value:,}</td>' if isinstance(value, int) else f"<td>{escape(str(value))}</td>"
