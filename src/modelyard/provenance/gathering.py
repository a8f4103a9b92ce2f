"""The neighbours of things, level by level, from the registry and the prediction log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from modelyard.domain.lineage import Direction, Edge, Node, NodeKind, Relation
from modelyard.domain.names import Ref
from modelyard.domain.timeline import Span, at, spans
from modelyard.provenance.telling import (
    code_of,
    data_node,
    decided,
    files_of,
    origin,
    present,
    run_node,
    version_node,
    when,
)
from modelyard.records.counting import Count, counts
from modelyard.registry.links import Key, Links, Some

Found: TypeAlias = Iterator[tuple[Edge, Node]]
Steps: TypeAlias = Iterator[tuple[NodeKind, Callable[[Sequence[Node]], Found]]]


class Gathering:
    """Finds what is next to things. It keeps what it has seen for as long as one question lasts."""

    def __init__(self, links: Links, records: Path, most: int = 8) -> None:
        self._links, self._records, self._most = links, records, most
        self._spans: dict[str, tuple[Span, ...]] = {}
        self._counts: dict[str, tuple[Count, ...]] = {}
        self._asked = ""

    def look(self, nodes: Sequence[Node], direction: Direction) -> list[tuple[Edge, Node]]:
        """What is next to these nodes; nodes of many runs come with one that says how many more there are."""
        steps = self._steps_up() if direction == "up" else self._steps_down()
        found: list[tuple[Edge, Node]] = []
        for kind, step in steps:
            chosen = [node for node in nodes if node.kind == kind]
            if chosen:
                found += step(chosen)
        return self.described(found)

    def described(self, found: Sequence[tuple[Edge, Node]]) -> list[tuple[Edge, Node]]:
        """With labels and facts, each thing asked for once; what is no longer there is left out."""
        known = self._facts([node for _, node in found])
        return [(edge, known[node.id]) for edge, node in found if node.id in known]

    def start(self, node: Node) -> Node:
        """The node in the middle, with its facts."""
        self._asked = node.id
        return self._facts([node]).get(node.id, node)

    def _facts(self, nodes: Sequence[Node]) -> dict[str, Node]:
        known = {node.id: node for node in nodes if node.kind not in ("run", "model", "data")}
        runs = self._links.runs(node.key for node in nodes if node.kind == "run")
        models = self._links.versions(_key(node.key) for node in nodes if node.kind == "model")
        data = self._links.data(_key(node.key) for node in nodes if node.kind == "data")
        told = [*map(run_node, runs.values()), *map(version_node, models.values()), *map(data_node, data.values())]
        return known | {node.id: node for node in told}

    def _steps_up(self) -> Steps:
        yield "prediction", self._up_prediction
        yield "deployment", self._up_deployment
        yield "model", self._up_model
        yield "data", self._up_data
        yield "run", self._up_run

    def _steps_down(self) -> Steps:
        yield "code", self._down_code
        yield "data", self._down_data
        yield "run", self._down_run
        yield "model", self._down_model
        yield "deployment", self._down_deployment

    # up ---------------------------------------------------------------------------------------------------------------

    def _up_prediction(self, nodes: Sequence[Node]) -> Found:
        for node in nodes:
            if "version" not in node.facts:
                continue
            ref, name = f"{node.facts['model']}@{node.facts['version']}", node.facts["deployment"]
            version, known = Node("model", ref, ref), self._history(name)
            live = None if node.at is None else at(known, node.at)
            if live is not None and live.to == ref:
                place = Node("deployment", name, name, {"live then": f"{ref} {when(live)}", **decided(live)})
                yield Edge(place.id, node.id, "answered"), place
                yield Edge(version.id, place.id, "deployed", when(live)), version
            else:
                yield Edge(version.id, node.id, "answered", f"as {name}" if name else ""), version

    def _up_deployment(self, nodes: Sequence[Node]) -> Found:
        for node in nodes:
            if "live then" in node.facts:  # of one prediction: only what was live then
                continue
            known = self._history(node.key)
            refs = list(dict.fromkeys(span.to for span in reversed(known)))
            for ref in refs[: self._most]:
                yield Edge(f"model:{ref}", node.id, "deployed", _times(known, ref)), Node("model", ref, ref)
            if len(refs) > self._most:
                yield _more(node, "up", len(refs) - self._most, "versions", f"modelyard history {node.key}")

    def _up_model(self, nodes: Sequence[Node]) -> Found:
        for key, run in self._links.that_made(_key(node.key) for node in nodes):
            yield Edge(f"run:{run}", f"model:{_ref(key)}", "packed"), Node("run", run, run)

    def _up_data(self, nodes: Sequence[Node]) -> Found:
        keys = [_key(node.key) for node in nodes]
        for key, run in self._links.that_took(keys):
            yield Edge(f"run:{run}", f"data:{_ref(key)}", "took"), Node("run", run, run)
        for key, source in self._links.sources(keys):
            yield Edge(f"data:{_ref(source)}", f"data:{_ref(key)}", "made from"), Node("data", _ref(source), "")
        for key, head in self._links.data(keys).items():
            said = origin(head.origin)
            if said:
                yield Edge(f"source:{said}", f"data:{_ref(key)}", "taken from"), Node("source", said, said)

    def _up_run(self, nodes: Sequence[Node]) -> Found:
        ids = [node.key for node in nodes]
        for run, key, was_read in self._links.read_by(ids):
            relation: Relation = "read" if was_read else "declared"
            note = "" if was_read else "declared, nothing of it was seen to be read"
            yield Edge(f"data:{_ref(key)}", f"run:{run}", relation, note), Node("data", _ref(key), "")
        for run, key in self._links.loaded_by(ids):
            yield Edge(f"model:{_ref(key)}", f"run:{run}", "loaded"), Node("model", _ref(key), "")
        for head in self._links.runs(ids).values():
            yield from code_of(head)
            if head.data.other_files:
                files = files_of(head)
                yield Edge(files.id, f"run:{head.id}", "read"), files

    # down -------------------------------------------------------------------------------------------------------------

    def _down_code(self, nodes: Sequence[Node]) -> Found:
        for node in nodes:
            some = self._links.that_ran(node.key, self._most)
            for run in some.found:
                yield Edge(node.id, f"run:{run}", "ran"), Node("run", run, run)
            yield from _rest(node, some, "runs", "")

    def _down_data(self, nodes: Sequence[Node]) -> Found:
        for node in nodes:
            key = _key(node.key)
            some = self._links.that_read(key, self._most)
            for run in some.found:
                yield Edge(node.id, f"run:{run}", "read"), Node("run", run, run)
            yield from _rest(node, some, "runs", f"modelyard runs list --data {node.key}")
            made = self._links.made_of(key, self._most)
            for other in made.found:
                yield Edge(node.id, f"data:{_ref(other)}", "made from"), Node("data", _ref(other), "")
            yield from _rest(node, made, "versions of data", "")

    def _down_run(self, nodes: Sequence[Node]) -> Found:
        ids = [node.key for node in nodes]
        for run, key in self._links.made_by(ids):
            yield Edge(f"run:{run}", f"model:{_ref(key)}", "packed"), Node("model", _ref(key), "")
        for run, key in self._links.taken_by(ids):
            yield Edge(f"run:{run}", f"data:{_ref(key)}", "took"), Node("data", _ref(key), "")

    def _down_model(self, nodes: Sequence[Node]) -> Found:
        for key, name in self._links.deployed(_key(node.key) for node in nodes):
            ref, known = _ref(key), self._history(name)
            place = Node("deployment", name, name, present(known))
            yield Edge(f"model:{ref}", place.id, "deployed", _times(known, ref)), place
        for node in nodes:
            some = self._links.that_loaded(_key(node.key), self._most)
            for run in some.found:
                yield Edge(node.id, f"run:{run}", "loaded"), Node("run", run, run)
            yield from _rest(node, some, "runs", "")
            yield from self._answered(node)

    def _answered(self, node: Node) -> Found:
        """All that a version answered, by deployment: the log knows the two, whatever was decided since."""
        model, number = _key(node.key)
        for one in self._counted(model):
            if one.version != number:
                continue
            key = f"{one.deployment}/{node.key}" if one.deployment else node.key
            facts = {"first": one.first.strftime("%Y-%m-%d %H:%M:%SZ"), "last": one.last.strftime("%Y-%m-%d %H:%M:%SZ")}
            many = Node("predictions", key, f"{one.rows:,} predictions", facts)
            place = f"deployment:{one.deployment}"
            known = any(span.to == node.key for span in self._history(one.deployment))
            yield Edge(place if known else node.id, many.id, "answered", f"by {node.key}"), many

    def _down_deployment(self, nodes: Sequence[Node]) -> Found:
        """Only where the question began at a deployment: else its versions were walked through, and told theirs."""
        for node in nodes:
            if node.id != self._asked:
                continue
            refs = {span.to for span in self._history(node.key)}
            for model in sorted({ref.partition("@")[0] for ref in refs}):
                for one in self._counted(model):
                    ref = f"{one.model}@{one.version}"
                    if one.deployment == node.key:
                        facts = {"by": ref, "first": str(one.first), "last": str(one.last)}
                        many = Node("predictions", f"{node.key}/{ref}", f"{one.rows:,} predictions", facts)
                        yield Edge(node.id, many.id, "answered", f"by {ref}"), many

    # what is asked for once -------------------------------------------------------------------------------------------

    def _history(self, name: str) -> tuple[Span, ...]:
        if name not in self._spans:
            self._spans[name] = spans(self._links.deployment_changes(name))
        return self._spans[name]

    def _counted(self, model: str) -> tuple[Count, ...]:
        if model not in self._counts:
            self._counts[model] = counts(self._records, [model])
        return self._counts[model]


def _key(ref: str) -> Key:
    parsed = Ref.parse(ref)
    return parsed.model, parsed.version or 0


def _ref(key: Key) -> str:
    return f"{key[0]}@{key[1]}"


def _times(known: Sequence[Span], ref: str) -> str:
    """When a version was live, in words; of many times the last."""
    mine = [span for span in known if span.to == ref]
    if not mine:
        return ""
    live = "live " + when(mine[-1])
    return live if len(mine) == 1 else f"{live}, and {len(mine) - 1} times before"


def _rest(node: Node, some: Some, what: str, command: str) -> Found:
    if some.total > len(some.found):
        yield _more(node, "down", some.total - len(some.found), what, command)


def _more(node: Node, direction: Direction, count: int, what: str, command: str) -> tuple[Edge, Node]:
    rest = Node("more", f"{direction} {what} {node.id}", f"{count:,} more {what}", {"see": command} if command else {})
    ends = (rest.id, node.id) if direction == "up" else (node.id, rest.id)
    return Edge(*ends, "more"), rest
