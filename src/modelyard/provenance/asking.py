"""What a user means with the word that they ask about."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from modelyard.domain.lineage import Node
from modelyard.domain.names import Ref
from modelyard.errors import InvalidRequest, ModelyardError, NotFound, PredictionNotFound
from modelyard.registry import Registry
from modelyard.registry.datasets import Datasets
from modelyard.registry.runs import Runs

KINDS = {
    "model": "model",
    "data": "data",
    "run": "run",
    "code": "code",
    "deployment": "deployment",
    "prediction": "prediction",
}
"""The words that may stand before a colon, and the kind of node that each means."""


class Asking:
    """Finds the node that a text names, in one registry and its records."""

    def __init__(self, registry: Registry, datasets: Datasets, records: Path) -> None:
        self._registry, self._datasets, self._records = registry, datasets, records
        self._runs = Runs(registry.database)

    def start(self, text: str) -> Node:
        """The node that `text` names.

        With ``model:``, ``data:``, ``run:``, ``code:``, ``deployment:`` or ``prediction:`` before it, it is that. Else
        it is a version of a model or of data where there is one of that name, a deployment, a run, a prediction: the
        first of these that there is.

        Raises:
            NotFound: there is nothing of that name.
            InvalidRequest: there is a model and a dataset of that name.
        """
        kind, colon, rest = text.partition(":")
        if colon and kind in KINDS:
            return self._of_kind(kind, rest)
        name = text.partition("@")[0]
        found = [kind for kind in ("model", "data") if self._has(kind, name)]
        if len(found) > 1:
            raise InvalidRequest(f"{name!r} is both a model and a dataset; write model:{text} or data:{text}")
        if found or "@" in text:
            return self._of_kind(found[0] if found else "model", text)
        for kind in ("deployment", "run", "prediction"):
            try:
                return self._of_kind(kind, text)
            except (NotFound, InvalidRequest):
                continue
        raise PredictionNotFound(
            f"nothing is known as {text!r}: no model, dataset, deployment, run or recorded prediction; "
            "see modelyard list, modelyard data list, modelyard runs list"
        )

    def _has(self, kind: str, name: str) -> bool:
        try:
            if kind == "model":
                self._registry.version(Ref.parse(name))
            else:
                self._datasets.version(name)
        except ModelyardError:
            return False
        return True

    def _of_kind(self, kind: str, text: str) -> Node:
        if kind == "model":
            ref = self._registry.version(text).ref
            return Node("model", ref, ref)
        if kind == "data":
            ref = self._datasets.version(text).ref
            return Node("data", ref, ref)
        if kind == "run":
            run = self._runs.run(text)
            return Node("run", run.id, run.name)
        if kind == "code":
            return Node("code", self._commit(text), text[:12])
        if kind == "deployment":
            return self._deployment(text)
        return self._prediction(text)

    def _commit(self, text: str) -> str:
        found = self._runs.commits(text)
        if len(found) != 1:
            what = (
                f"several commits begin with {text!r}: {', '.join(found)}" if found else f"no run ran commit {text!r}"
            )
            raise NotFound(what)
        return found[0]

    def _deployment(self, text: str) -> Node:
        from modelyard.registry.links import Links

        links = Links(self._registry.database)
        if not links.deployment_changes(text):
            from modelyard.errors import DeploymentNotFound

            raise DeploymentNotFound(text, links.deployment_names())
        return Node("deployment", text, text)

    def _prediction(self, text: str) -> Node:
        from modelyard.records import replay

        found = replay.find(self._records, text)
        record = found.record
        facts = {
            "deployment": record.deployment,
            "model": record.model if record.version else "",
            "version": str(record.version or ""),
            "outcome": record.outcome,
            "status": str(record.status),
            "rows": str(record.rows),
            "digest": record.digest,
            "error": record.error or "",
            "answer again": f"modelyard replay {text}",
        }
        at = datetime.fromtimestamp(record.received_ns / 1e9, UTC)
        return Node("prediction", text, text, {name: said for name, said in facts.items() if said}, at)
