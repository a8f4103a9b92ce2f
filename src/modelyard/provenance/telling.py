"""Things of the registry as nodes of a lineage, with what is worth telling of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from modelyard.domain.lineage import Edge, Node
from modelyard.domain.timeline import Span
from modelyard.registry.links import DataHead, Key, RunHead, VersionHead


def run_node(head: RunHead) -> Node:
    """A run."""
    metrics = ", ".join(f"{name} {metric.last:g}" for name, metric in list(head.metrics.items())[:3])
    facts = {
        "state": head.outcome.state,
        "started": moment(head.started_at),
        "took": "" if head.seconds is None else f"{head.seconds:.1f} s",
        "by": head.by,
        "metrics": metrics,
        "error": head.outcome.error,
    }
    return Node("run", head.id, head.name, {name: said for name, said in facts.items() if said}, head.started_at)


def version_node(head: VersionHead) -> Node:
    """A version of a model."""
    facts = {
        "aliases": ", ".join(head.aliases),
        "earlier aliases": ", ".join(head.were),
        "registered": moment(head.created_at),
        "runtime": head.runtime,
        "digest": head.digest,
    }
    return Node(
        "model", _ref(head.key), _ref(head.key), {name: said for name, said in facts.items() if said}, head.created_at
    )


def data_node(head: DataHead) -> Node:
    """A version of data."""
    facts = {
        "files": f"{head.files:,}",
        "bytes": f"{head.bytes:,}",
        "taken": moment(head.created_at),
        "by": head.by,
        "note": head.note,
    }
    return Node(
        "data", _ref(head.key), _ref(head.key), {name: said for name, said in facts.items() if said}, head.created_at
    )


def origin(known: dict[str, Any]) -> str:
    """Where a snapshot was taken from, in words.

    >>> origin({"kind": "files", "sources": ["flights/"]})
    'files flights/'
    """
    kind = known.get("kind")
    if kind == "files":
        return f"files {', '.join(map(str, known.get('sources', ())))}"
    if kind == "query":
        return f"query on {known.get('database')}: {' '.join(str(known.get('query')).split())}"
    if kind == "delta":
        return f"Delta table {known.get('table')}, version {known.get('version')}"
    if kind == "records":
        return f"records of {known.get('deployment')} with their labels, before {known.get('until')}"
    return ""


def code_of(head: RunHead) -> Iterator[tuple[Edge, Node]]:
    """The code that a run ran: its commit, and what was in none."""
    code = head.code
    if code.commit is None and not code.loaded:
        return
    what = [(len(code.changed), "changed"), (len(code.untracked), "in no commit"), (len(code.loaded), "kept as run")]
    note = ", ".join(f"{count} file{'s' if count > 1 else ''} {words}" for count, words in what if count)
    if code.commit is None:
        node = Node("code", f"run {head.id}", "files in no repository", {"files": ", ".join(code.loaded[:8])})
    else:
        facts = {"branch": code.branch or "", "remote": code.remote or ""}
        said = {name: text for name, text in facts.items() if text}
        node = Node("code", code.commit, code.commit[:12], said)
    yield Edge(node.id, f"run:{head.id}", "ran", f"with {note}" if note and code.commit else note), node


def files_of(head: RunHead) -> Node:
    """What a run read that is of no version of data."""
    count = head.data.other_files
    names = ", ".join(head.data.others)
    label = f"{count} file{'s' if count > 1 else ''} of no version"
    return Node("files", head.id, label, {"files": names})


def present(known: Sequence[Span]) -> dict[str, str]:
    """What is live now, of all that ever was."""
    live = known[-1] if known and known[-1].until is None else None
    return {"live now": "nothing"} if live is None else {"live now": f"{live.to} {when(live)}", **decided(live)}


def decided(span: Span) -> dict[str, str]:
    """Who decided it, and why without proof."""
    facts = {"decided by": span.by, "without proof because": span.why}
    return {name: said for name, said in facts.items() if said}


def _ref(key: Key) -> str:
    return f"{key[0]}@{key[1]}"


def when(span: Span) -> str:
    """A stretch of time in words.

    >>> from datetime import UTC
    >>> when(Span("a@1", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)))
    'since 2026-01-02 03:04:05Z'
    """
    since = moment(span.since)
    return f"since {since}" if span.until is None else f"{since} to {moment(span.until)}"


def moment(at: datetime) -> str:
    """A time, in UTC and to the second."""
    return at.strftime("%Y-%m-%d %H:%M:%SZ")
