"""The look of the pages that commands write: one file each, which needs nothing beside itself, in light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --before: #8a94a6; --after: #d9622b; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2.5rem } h3 { font-size: 1rem; margin-top: 1.5rem }
table { border-collapse: collapse } th, td { text-align: left; padding: .15rem .9rem .15rem 0; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums } tr { border-bottom: 1px solid var(--line) }
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


def _cell(value: Any) -> str:
    return f'<td class="n">{value:,}</td>' if isinstance(value, int) else f"<td>{escape(str(value))}</td>"
