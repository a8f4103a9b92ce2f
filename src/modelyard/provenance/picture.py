"""Lineage as a picture: columns from left to right, drawn as SVG, alone or on a page of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape

from modelyard import pages
from modelyard.domain.lineage import Edge, Graph, Node, ordered
from modelyard.provenance.text import HEADINGS, WORDS, lines, told

WIDTH, HEIGHT = 216, 46
"""Of a box, in units of the picture."""
_ACROSS, _DOWN, _EDGE = 74, 14, 16
_LETTERS, _SMALL = 28, 38

_COLOURS = {
    "source": "#8a94a6",
    "files": "#c0392b",
    "data": "#2b7bba",
    "code": "#7a6bb0",
    "run": "#b8860b",
    "model": "#d9622b",
    "deployment": "#2e8b57",
    "predictions": "#2e8b57",
    "prediction": "#2e8b57",
    "more": "#8a94a6",
}

_STYLE = """
.lineage { color-scheme: light dark; --ink: #1b1f27; --paper: #ffffff; --faint: #5b6472; --edge: #8a94a6 }
@media (prefers-color-scheme: dark) { .lineage { --ink: #e8eaee; --paper: #20242c; --faint: #a3acba; --edge: #6d7787 } }
.lineage text { font: 13px system-ui, sans-serif; fill: var(--ink) }
.lineage .small { font-size: 11px; fill: var(--faint) } .lineage .kind { font-size: 10px; fill: var(--faint) }
.lineage rect { fill: var(--paper); stroke-width: 1.5 } .lineage .start rect { stroke-width: 4 }
.lineage path { fill: none; stroke: var(--edge); stroke-width: 1.4 } .lineage .head { fill: var(--edge); stroke: none }
.lineage .declared { stroke-dasharray: 5 4 } .lineage .more rect { stroke-dasharray: 4 3 }
.lineage a { cursor: pointer } .lineage g.node:hover rect { stroke-width: 3 }
"""
_PAGE = """
body { max-width: none } .wide { overflow-x: auto } .wide svg { width: auto; max-width: none; height: auto }
pre { overflow-x: auto; line-height: 1.35 } section:target h3 { color: var(--after) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem } dt { opacity: .7 } dd { margin: 0 }
dd { overflow-wrap: anywhere }
"""


@dataclass(frozen=True, slots=True)
class _Placed:
    node: Node
    x: float
    y: float


def svg(graph: Graph, *, links: bool = False) -> str:
    """The picture. With `links`, boxes lead to what the page around it says of them."""
    columns = ordered(graph)
    tallest = max(len(column) for column in columns)
    placed = {
        node.id: _Placed(
            node, _EDGE + column * (WIDTH + _ACROSS), _EDGE + (row + _lift(tallest, each)) * (HEIGHT + _DOWN)
        )
        for column, each in enumerate(columns)
        for row, node in enumerate(each)
    }
    width = 2 * _EDGE + len(columns) * (WIDTH + _ACROSS) - _ACROSS
    height = 2 * _EDGE + tallest * (HEIGHT + _DOWN) - _DOWN
    drawn = [*_edges(graph.edges, placed), *(_box(one, graph.start, links=links) for one in placed.values())]
    said = f"Lineage of {graph.node(graph.start).label}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="lineage" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(said)}"><style>{_STYLE}</style>{"".join(drawn)}</svg>\n'
    )


def page(graph: Graph) -> str:
    """The picture on a page, with all that is known of each thing below it."""
    return pages.page(f"Lineage of {graph.node(graph.start).label}", _body(graph), style=_PAGE)


def _body(graph: Graph) -> Iterator[str]:
    yield f'<div class="wide">{svg(graph, links=True)}</div>'
    yield f"<h2>As text</h2><pre>{escape(chr(10).join(lines(graph)))}</pre><h2>Each of them</h2>"
    for node in graph.nodes:
        yield _section(graph, node)


def _section(graph: Graph, node: Node) -> str:
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(said)}</dd>" for name, said in node.facts.items())
    ends = [
        f"<dt>{heading}</dt><dd>{_linked(graph.node(_other(edge, node)), edge)}</dd>"
        for direction, heading in HEADINGS.items()
        for edge in graph.next_to(node.id, direction)
    ]
    name = f"{node.label} {node.key}" if node.kind == "run" else node.label
    title = f"{WORDS[node.kind]} {name}".strip()
    return f'<section id="{_anchor(node)}"><h3>{escape(title)}</h3><dl>{facts}{"".join(ends)}</dl></section>'


def _other(edge: Edge, node: Node) -> str:
    return edge.source if edge.target == node.id else edge.target


def _linked(node: Node, edge: Edge) -> str:
    return f'<a href="#{_anchor(node)}">{escape(told(node, edge))}</a>'


def _anchor(node: Node) -> str:
    return escape(node.id.replace(" ", "-"), quote=True)


def _lift(tallest: int, column: list[Node]) -> float:
    """Shorter columns stand in the middle."""
    return (tallest - len(column)) / 2


def _edges(edges: Iterable[Edge], placed: dict[str, _Placed]) -> Iterator[str]:
    for edge in edges:
        source, target = placed[edge.source], placed[edge.target]
        x1, y1 = source.x + WIDTH, source.y + HEIGHT / 2
        x2, y2 = target.x - 6, target.y + HEIGHT / 2
        bend = max((x2 - x1) / 2, 24)
        said = f"{source.node.label} → {target.node.label}: {edge.relation}{f', {edge.note}' if edge.note else ''}"
        style = "declared" if edge.relation in ("declared", "more") else edge.relation.replace(" ", "-")
        yield (
            f'<g><title>{escape(said)}</title><path class="{style}" d="M{x1:.0f},{y1:.1f} C{x1 + bend:.0f},{y1:.1f} '
            f'{x2 - bend:.0f},{y2:.1f} {x2:.0f},{y2:.1f}"/>'
            f'<path class="head" d="M{x2 + 6:.0f},{y2:.1f} l-8,-4 v8 z"/></g>'
        )


def _box(one: _Placed, start: str, *, links: bool) -> str:
    node = one.node
    told_all = "\n".join([node.id, *(f"{name}: {said}" for name, said in node.facts.items())])
    kind = f"{WORDS[node.kind] or node.kind}{f' {node.key[-6:]}' if node.kind == 'run' else ''}"
    style = " ".join(["node", node.kind, *(["start"] if node.id == start else [])])
    box = (
        f'<g class="{style}" transform="translate({one.x:.0f},{one.y:.1f})"><title>{escape(told_all)}</title>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="7" stroke="{_COLOURS[node.kind]}"/>'
        f'<text x="10" y="19">{escape(_cut(node.label, _LETTERS))}</text>'
        f'<text class="small" x="10" y="36">{escape(_cut(_second(node), _SMALL))}</text>'
        f'<text class="kind" x="{WIDTH - 8}" y="{HEIGHT - 32}" text-anchor="end">{escape(kind)}</text></g>'
    )
    return f'<a href="#{_anchor(node)}">{box}</a>' if links else box


def _second(node: Node) -> str:
    """The one line below the name."""
    wanted = {
        "data": ("note", "files", "taken"),
        "run": ("metrics", "state"),
        "model": ("aliases", "registered"),
        "code": ("branch", "files"),
        "deployment": ("live then", "live now"),
        "predictions": ("last",),
        "prediction": ("outcome",),
        "files": ("files",),
        "more": ("see",),
    }.get(node.kind, ())
    for name in wanted:
        if name in node.facts:
            return f"{node.facts[name]} files" if (node.kind, name) == ("data", "files") else node.facts[name]
    return ""


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"
