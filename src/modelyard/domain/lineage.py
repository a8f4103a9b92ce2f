"""Where things come from and what became of them, as a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, TypeAlias

NodeKind: TypeAlias = Literal[
    "source", "data", "code", "files", "run", "model", "deployment", "predictions", "prediction", "more"
]
"""``source``: where a snapshot was taken from; ``files``: what a run read that is of no dataset version; ``model``: a
version of one; ``predictions``: all that one version answered in one deployment; ``more``: how many are not shown."""

Relation: TypeAlias = Literal[
    "taken from", "made from", "read", "declared", "ran", "loaded", "took", "packed", "deployed", "answered", "more"
]
"""What happened along an edge, told of its target, except that a run ``took`` and ``packed`` its targets."""

Direction: TypeAlias = Literal["up", "down"]
"""``up``: to what it was made from; ``down``: to what was made of it."""


@dataclass(frozen=True, slots=True)
class Node:
    """One thing. `key` names it among those of its kind; `facts` are what is worth telling of it, in order."""

    kind: NodeKind
    key: str
    label: str
    facts: dict[str, str] = field(default_factory=dict)
    at: datetime | None = None

    @property
    def id(self) -> str:
        """How it is told from all others, such as ``data:flights@2``; the word that `modelyard lineage` takes."""
        return f"{self.kind}:{self.key}"


@dataclass(frozen=True, slots=True)
class Edge:
    """`target` came of `source`, both ids of nodes. `note` says more, such as when a version was live."""

    source: str
    target: str
    relation: Relation
    note: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """What is around the node `start`; edges lead from what was there first to what was made of it."""

    start: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()

    def node(self, id_: str) -> Node:
        """The node of that id; KeyError where there is none."""
        for node in self.nodes:
            if node.id == id_:
                return node
        raise KeyError(id_)

    def next_to(self, id_: str, direction: Direction) -> tuple[Edge, ...]:
        """The edges that lead into a node (up) or out of it (down), in the order in which they were found."""
        return tuple(edge for edge in self.edges if (edge.target if direction == "up" else edge.source) == id_)

    def of_kind(self, kind: NodeKind) -> tuple[Node, ...]:
        """All nodes of one kind."""
        return tuple(node for node in self.nodes if node.kind == kind)


Neighbours: TypeAlias = Iterable[tuple[Edge, Node]]
"""Edges that touch nodes asked for, each with the node at its other end."""

Look: TypeAlias = Callable[[Sequence[Node], Direction], Neighbours]
"""Finds what is next to several nodes at once in one direction."""


def walk(start: Node, look: Look, directions: Iterable[Direction], depth: int | None = None, most: int = 400) -> Graph:
    """Go from `start` in each direction, level by level.

    Args:
        start: The node in the middle.
        look: How neighbours are found.
        directions: Where to go. What was made from the same things as `start`, but not of it, is not met.
        depth: How many edges away to stop; None goes on to the end.
        most: No more nodes than about this.

    >>> chain = {"a": "b", "b": "c"}
    >>> def look(nodes, direction):
    ...     for node in nodes:
    ...         if direction == "down" and node.key in chain:
    ...             other = Node("data", chain[node.key], chain[node.key])
    ...             yield Edge(node.id, other.id, "made from"), other
    >>> [node.key for node in walk(Node("data", "a", "a"), look, ["up", "down"], depth=1).nodes]
    ['a', 'b']
    """
    nodes = {start.id: start}
    edges: dict[tuple[str, str], Edge] = {}
    for direction in directions:
        level, seen, far = [start], {start.id}, 0
        while level and (depth is None or far < depth) and len(nodes) < most:
            found = list(look(level, direction))
            far += 1
            level = []
            for edge, node in found:
                edges.setdefault((edge.source, edge.target), edge)
                nodes.setdefault(node.id, node)
                if node.id not in seen:
                    seen.add(node.id)
                    level.append(node)
    return Graph(start.id, tuple(nodes.values()), tuple(edges.values()))


def layers(graph: Graph) -> dict[str, int]:
    """In which column each node is drawn: every edge leads at least one to the right.

    >>> nodes = tuple(Node("data", key, key) for key in "abc")
    >>> layers(Graph("data:c", nodes, (Edge("data:a", "data:c", "made from"), Edge("data:b", "data:c", "made from"))))
    {'data:a': 0, 'data:b': 0, 'data:c': 1}
    """
    columns = {node.id: 0 for node in graph.nodes}
    for _ in graph.nodes:  # a circle, which only a damaged registry could hold, ends it too
        moved = False
        for edge in graph.edges:
            if columns[edge.target] <= columns[edge.source]:
                columns[edge.target], moved = columns[edge.source] + 1, True
        if not moved:
            break
    for node in reversed(graph.nodes):  # what nothing leads to stands beside what came of it
        after = [columns[edge.target] for edge in graph.edges if edge.source == node.id]
        if after and not any(edge.target == node.id for edge in graph.edges):
            columns[node.id] = min(after) - 1
    return columns


def ordered(graph: Graph) -> list[list[Node]]:
    """The nodes column by column, each placed beside those it is joined to so that few edges cross (barycentres)."""
    columns = layers(graph)
    rows: list[list[Node]] = [[] for _ in range(max(columns.values(), default=-1) + 1)]
    for node in graph.nodes:
        rows[columns[node.id]].append(node)
    near: dict[str, list[str]] = {node.id: [] for node in graph.nodes}
    for edge in graph.edges:
        near[edge.source].append(edge.target)
        near[edge.target].append(edge.source)
    for _ in range(6):
        for column in (*rows, *reversed(rows)):
            place = {node.id: (at + 0.5) / len(each) for each in rows for at, node in enumerate(each)}
            middle = {node.id: _mean([place[other] for other in near[node.id]], place[node.id]) for node in column}
            column.sort(key=lambda node: (node.kind == "more", middle[node.id]))
    return rows


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def with_facts(node: Node, **facts: str) -> Node:
    """The node with more facts; empty ones are left out."""
    return replace(node, facts={**node.facts, **{name: text for name, text in facts.items() if text}})
