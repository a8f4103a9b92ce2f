"""What the server answers besides predictions: health, metadata, the index, its status, and labels."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from modelyard.domain.desired import CANDIDATE
from modelyard.domain.known import known_ns
from modelyard.domain.records import Label, key_of
from modelyard.domain.schema import Scalar
from modelyard.errors import DeploymentNotFound, InvalidInput, InvalidRequest, ModelyardError, NotOffered
from modelyard.protocol import jsontext, oip, rows
from modelyard.protocol.configuration import model_configuration
from modelyard.records.interface import LabelSink
from modelyard.serving import boards
from modelyard.serving.boards import Boards, Merged
from modelyard.serving.counters import counters
from modelyard.serving.http import Reply, error_reply, json_reply
from modelyard.serving.plane import DataPlane, NotLoaded
from modelyard.serving.repository import Repository
from modelyard.serving.routes import Target
from modelyard.serving.served import ServedVersion
from modelyard.serving.statistics import model_statistics
from modelyard.serving.status import PlaneStatus

EXTENSIONS = (
    "parameters",
    "binary_tensor_data",
    "classification",
    "model_repository",
    "model_repository(index)",
    "statistics",
    "model_configuration",
)
"""The extensions of the Open Inference Protocol that are offered."""


@dataclass(frozen=True, slots=True, eq=False)
class Services:
    """What the answers are made from. `facts` gives more to show under ``/status``.

    `boards` is the folder in which each worker tells of itself; with it, answers speak for all of them. `publish` puts
    up what this one has to tell. `repository` takes orders to load and unload; `most_rows` is what a call may have, or
    a number that none reaches.
    """

    plane: DataPlane
    labels: LabelSink
    version: str
    facts: Callable[[], dict[str, Any]] = dict
    boards: Path | None = None
    publish: Callable[[], None] = lambda: None
    repository: Repository | None = None
    most_rows: int = 1 << 26

    def status(self, only: str | None = None) -> PlaneStatus:
        """What all workers together answer, what was asked for, and why that differs."""
        if self.boards is None:
            return self.plane.status(only)
        return self._status(_merged(boards.read_status(self.boards)), only)

    def page(self, only: str | None = None) -> tuple[PlaneStatus, dict[str, Any]]:
        """As `status`, with who answers and the counts of all workers, as the status page shows them."""
        if self.boards is None:
            return self.plane.status(only), {}
        told = self._told(self.boards)
        merged, crew = _merged(told), told.crew
        return self._status(merged, only), {
            "supervisor": None if crew is None else crew.pid,
            "workers_wanted": 1 if crew is None else crew.wanted,
            "workers": msgspec.to_builtins(merged.workers),
            "worker_restarts": merged.worker_restarts,
            "workers_reason": "" if crew is None else crew.reason,
            "versions": msgspec.to_builtins(counters(merged, only)),
        }

    def counts(self, *, published: bool = False) -> Merged:
        """The counts of all workers, the present ones of the worker that is asked, `published` before or now."""
        return _merged(Boards() if self.boards is None else self._told(self.boards, published=published))

    def _told(self, folder: Path, *, published: bool = False) -> Boards:
        # Its own board first: another worker that is asked next then tells of no less, and no counter goes back.
        if not published:
            self.publish()
        return boards.read_all(folder)

    def _status(self, merged: Merged, only: str | None) -> PlaneStatus:
        status = merged.status
        shown = tuple(one for one in status.deployments if only in (None, one.name))
        ready, reason = status.ready, status.reason
        mine = self.plane.readiness()
        if not mine.ready:
            # Whoever asks goes on with this worker, whatever the others can do.
            ready, reason = False, mine.reason
        return replace(status, ready=ready, reason=reason, deployments=shown)


def _merged(told: Boards) -> Merged:
    return boards.combine(told, boards.living(told), time.monotonic())


class LabelsRequest(msgspec.Struct):
    """The body of a call that adds labels."""

    class One(msgspec.Struct):
        """The truth for one prediction; null for a truth that is known not to exist.

        The prediction is named by its id, or by the values of key columns in a deployment. `known_at` is when the truth
        became known: RFC 3339, or milliseconds since 1970.
        """

        value: Scalar | None
        prediction_id: str = ""
        key: dict[str, Scalar] | None = None
        deployment: str | None = None
        known_at: str | int | float | None = None

    labels: list[One]
    deployment: str | None = None


_LABELS = msgspec.json.Decoder(LabelsRequest)


class IndexRequest(msgspec.Struct):
    """The body of a call for the repository index."""

    ready: bool = False


_INDEX = msgspec.json.Decoder(IndexRequest)


def live(services: Services, target: Target, body: bytes) -> Reply:
    """The process answers."""
    return json_reply({"live": True})


def ready(services: Services, target: Target, body: bytes) -> Reply:
    """Whether everything that should answer does; if not, why."""
    state = services.status()
    if not state.ready:
        return json_reply({"ready": False, "reason": state.reason}, 503)
    parked = sum(one.unloaded == "for memory" for one in state.deployments)
    if not parked:
        return json_reply({"ready": True})
    reason = f"{parked} of {len(state.deployments)} deployments are loaded when they are asked for"
    return json_reply({"ready": True, "reason": reason})


def model_ready(services: Services, target: Target, body: bytes) -> Reply:
    """Whether one deployment, or one version of it, answers; if not, why."""
    name = target.deployment or ""
    try:
        served = services.plane.lease(name, target.version)
    except NotLoaded as error:
        version = services.plane.wanted(name)
        return json_reply(
            {"name": name, "version": str(version.version if version else ""), "ready": True, "reason": str(error)}
        )
    except ModelyardError as error:
        reply = error_reply(error)
        if reply.status != 503:
            return reply
        return json_reply({"name": name, "ready": False, "reason": str(error), "error": str(error)}, 503)
    served.leases.give_back()
    trouble = "the server is stopping" if services.plane.draining else served.trouble()
    document = {"name": name, "version": str(served.deployment.version), "ready": not trouble}
    return json_reply({**document, **({"reason": trouble, "error": trouble} if trouble else {})}, _code(not trouble))


def server_metadata(services: Services, target: Target, body: bytes) -> Reply:
    """Name, version and extensions of the server."""
    return json_reply({"name": "modelyard", "version": services.version, "extensions": EXTENSIONS})


def model_metadata(services: Services, target: Target, body: bytes) -> Reply:
    """A deployment's tensors, and its whole schema as a property; a version that shares its calls is named as well."""
    served = services.plane.lease(target.deployment or "", target.version)
    try:
        deployment, manifest = served.deployment, served.manifest
        properties = {
            "model": deployment.model,
            "digest": served.digest,
            "runtime": manifest.runtime,
            "framework": manifest.framework,
            "estimator": manifest.estimator,
        }
        name, versions = deployment.name.removesuffix(CANDIDATE), [str(deployment.version)]
        if target.version is None:
            versions += services.plane.beside(name, versions[0])
        return json_reply(oip.model_metadata(name, versions, _platform(served), served.schema, properties))
    finally:
        served.leases.give_back()


def configuration(services: Services, target: Target, body: bytes) -> Reply:
    """A deployment's model configuration: its tensors, and how calls are computed."""
    served = services.plane.lease(target.deployment or "", target.version)
    try:
        deployment, manifest = served.deployment, served.manifest
        facts = {"model": deployment.model, "digest": served.digest, "framework": manifest.framework}
        found = model_configuration(
            deployment.name,
            deployment.version,
            _platform(served),
            "onnxruntime" if manifest.runtime == "onnx" else "python",
            served.schema,
            most_rows=services.most_rows,
            batched=served.merges,
            parameters=facts | {"estimator": manifest.estimator},
        )
        return json_reply(found)
    finally:
        served.leases.give_back()


def statistics(services: Services, target: Target, body: bytes) -> Reply:
    """What was counted of every version, of one deployment's, or of one version, over all workers."""
    found = model_statistics(services.counts(), target.deployment, target.version)
    if not found and target.deployment is not None:
        # Why there is none: no such deployment or version, or it is still loading.
        with contextlib.suppress(NotLoaded):
            services.plane.lease(target.deployment, target.version).leases.give_back()
    return json_reply({"model_stats": found})


def models(services: Services, target: Target, body: bytes) -> Reply:
    """The names of all deployments."""
    return json_reply({"models": services.plane.names()})


def repository_index(services: Services, target: Target, body: bytes) -> Reply:
    """Every deployment with the state of the version that answers and of the one that is wanted."""
    only_ready = jsontext.parse_as(body, _INDEX).ready if body.strip() else False
    entries = []
    for deployment in services.status().deployments:
        versions = {deployment.version: (deployment.state, deployment.reason)}
        if deployment.wanted is not None:
            versions.setdefault(deployment.wanted.version, (deployment.wanted.state, deployment.wanted.reason))
        entries += [
            {"name": deployment.name, "version": str(version), "state": state, "reason": reason}
            for version, (state, reason) in versions.items()
            if state == "READY" or not only_ready
        ]
    return json_reply(entries)


async def order(
    services: Services,
    target: Target,
    parameters: Mapping[str, Any],
    authorization: str | None,
    seconds: float | None = None,
) -> Reply:
    """Load or unload a deployment in all workers, for those who may; answered when that is done."""
    repository = services.repository or Repository(services.plane)
    repository.allow(authorization)
    carry_out = repository.load if target.action == "load" else repository.unload
    return json_reply(await carry_out(target.deployment or "", parameters, seconds))


def not_offered(services: Services, target: Target, body: bytes) -> Reply:
    """Refused: a known extension that is not there."""
    raise NotOffered(f"this extension is not offered here; there are: {', '.join(EXTENSIONS)}")


def status(services: Services, target: Target, body: bytes) -> Reply:
    """What answers, what was asked for and why that differs, for all deployments or one."""
    seen, more = services.page(target.deployment)
    if target.deployment is not None and not seen.deployments:
        raise DeploymentNotFound(target.deployment, services.plane.names())
    facts = {
        "server": "modelyard",
        "version": services.version,
        "pid": os.getpid(),
        **services.facts(),
        **more,
    }
    return json_reply({**msgspec.to_builtins(seen), **facts})


def metrics(services: Services, target: Target, body: bytes, accept: str = "", *, published: bool = False) -> Reply:
    """The counts of all workers as Prometheus text, or as OpenMetrics where `accept` asks for it.

    Safe to call from any thread if what this worker has to tell is `published`.
    """
    from modelyard.serving.metrics import exposition

    text, content_type = exposition(services.counts(published=published), accept)
    return Reply(200, text, content_type=content_type.encode())


def openapi(services: Services, target: Target, body: bytes) -> Reply:
    """The routes, what they take and what they answer, as an OpenAPI document, with an example for each deployment."""
    from modelyard.serving.openapi import MOST_EXAMPLES, Offered, document

    offered = []
    for name in services.plane.names()[:MOST_EXAMPLES]:
        with contextlib.suppress(ModelyardError):
            served = services.plane.lease(name)
            offered.append(Offered(name, served.digest, served.schema))
            served.leases.give_back()
    return Reply(200, document(services.version, tuple(offered)))


def add_labels(services: Services, target: Target, body: bytes) -> Reply:
    """Keep the truth for past predictions."""
    request, now = jsontext.parse_as(body, _LABELS), time.time_ns()
    labels = []
    for position, label in enumerate(request.labels):
        try:
            labels.append(_label(label, request.deployment, now))
        except InvalidInput as error:
            raise InvalidRequest(f"label {position}: {error}") from None
    return json_reply({"accepted": services.labels.append_many(labels)})


def _label(given: LabelsRequest.One, deployment: str | None, now: int) -> Label:
    known = 0 if given.known_at is None else known_ns(given.known_at)
    if given.key is None:
        if not 0 < len(given.prediction_id) <= rows.LONGEST_ID:
            raise InvalidInput(f"a prediction id has 1 to {rows.LONGEST_ID} characters")
        return Label(given.prediction_id, given.value, now, "http", known_ns=known)
    named = given.deployment or deployment
    if not named or not given.key or given.prediction_id:
        raise InvalidInput("expected a 'prediction_id', or a 'key' of one column or more and its 'deployment'")
    if "" in given.key.values():
        raise InvalidInput("a column of its 'key' has no value")
    return Label("", given.value, now, "http", named, key_of(given.key), known)


ACTIONS: dict[str, Callable[[Services, Target, bytes], Reply]] = {
    "live": live,
    "ready": ready,
    "model ready": model_ready,
    "server metadata": server_metadata,
    "model metadata": model_metadata,
    "configuration": configuration,
    "statistics": statistics,
    "models": models,
    "repository index": repository_index,
    "labels": add_labels,
    "status": status,
    "metrics": metrics,
    "openapi": openapi,
    "not offered": not_offered,
}


def _code(ready: bool) -> int:
    return 200 if ready else 503


def _platform(served: ServedVersion) -> str:
    manifest = served.manifest
    if manifest.runtime == "onnx":
        return "onnx_onnxv1"
    return f"{manifest.framework}_{manifest.native.format if manifest.native else 'python'}"
