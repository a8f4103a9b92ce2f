"""Lineage as a tree of text."""

from __future__ import annotations

from collections.abc import Iterator

from modelyard.domain.lineage import Direction, Edge, Graph, Node, NodeKind

HEADINGS: dict[Direction, str] = {"up": "made from", "down": "became"}
WORDS: dict[NodeKind, str] = {
    "source": "from",
    "data": "data",
    "code": "code",
    "files": "FILES",
    "run": "run",
    "model": "model",
    "deployment": "deployment",
    "predictions": "",
    "prediction": "prediction",
    "more": "and",
}
_TOLD: dict[NodeKind, tuple[str, ...]] = {
    "data": ("note",),
    "files": ("files",),
    "run": ("state", "metrics"),
    "model": ("aliases",),
    "deployment": ("live then", "live now"),
    "predictions": ("first", "last"),
    "prediction": ("deployment", "outcome"),
    "more": ("see",),
}


def lines(graph: Graph) -> Iterator[str]:
    """The node in the middle with its facts, then a tree for each direction in which there is something.

    What is met again, where it was shown with what is behind it, is marked with an arrow and not followed again.
    """
    start = graph.node(graph.start)
    yield f"{WORDS[start.kind]} {start.label}".strip()
    for name, said in start.facts.items():
        yield f"  {name:<15} {said}"
    for direction, heading in HEADINGS.items():
        if graph.next_to(start.id, direction):
            yield ""
            yield heading
            yield from _branches(graph, start, direction, "", {start.id})


def _branches(graph: Graph, node: Node, direction: Direction, indent: str, shown: set[str]) -> Iterator[str]:
    edges = graph.next_to(node.id, direction)
    for edge in edges:
        is_last = edge is edges[-1]
        other = graph.node(edge.source if direction == "up" else edge.target)
        again = other.id in shown and bool(graph.next_to(other.id, direction))
        yield f"{indent}{'└─' if is_last else '├─'} {told(other, edge)}{' ↑' if again else ''}"
        if not again:
            shown.add(other.id)
            yield from _branches(graph, other, direction, f"{indent}{'   ' if is_last else '│  '}", shown)


def told(node: Node, edge: Edge) -> str:
    """A node in one line."""
    named = f"{node.label} {node.key}" if node.kind == "run" else node.label
    facts = [node.facts[name] for name in _TOLD.get(node.kind, ()) if name in node.facts]
    said = "; ".join(part for part in (edge.note, *facts) if part)
    return f"{WORDS[node.kind]} {named}{f'  ({said})' if said else ''}".strip()
