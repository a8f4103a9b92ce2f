"""Paths to what they mean. Pure: the same path gives the same target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Action: TypeAlias = Literal[
    "oip",
    "rows",
    "invocations",
    "live",
    "ready",
    "model ready",
    "server metadata",
    "model metadata",
    "configuration",
    "statistics",
    "models",
    "repository index",
    "load",
    "unload",
    "labels",
    "status",
    "metrics",
    "openapi",
    "not offered",
]


@dataclass(frozen=True, slots=True)
class Target:
    """What a path asks for, the verbs it takes, and the deployment and version it names."""

    action: Action
    verbs: tuple[str, ...]
    deployment: str | None = None
    version: str | None = None


_GET, _POST = ("GET", "HEAD"), ("POST",)

_FIXED: dict[str, Target] = {
    "/v2": Target("server metadata", _GET),
    "/v2/health/live": Target("live", _GET),
    "/v2/health/ready": Target("ready", _GET),
    "/v2/models": Target("models", _GET),
    "/v2/models/stats": Target("statistics", _GET),
    "/v2/repository/index": Target("repository index", _POST),
    "/v2/logging": Target("not offered", ("GET", "POST")),
    "/v2/trace/setting": Target("not offered", ("GET", "POST")),
    "/invocations": Target("invocations", _POST),
    "/labels": Target("labels", _POST),
    "/status": Target("status", _GET),
    "/metrics": Target("metrics", _GET),
    "/openapi.json": Target("openapi", _GET),
    "/ping": Target("ready", _GET),
    "/health": Target("ready", _GET),
}

_OF_A_MODEL: dict[str, tuple[Action, tuple[str, ...]]] = {
    "": ("model metadata", _GET),
    "infer": ("oip", _POST),
    "ready": ("model ready", _GET),
    "stats": ("statistics", _GET),
    "config": ("configuration", _GET),
    "trace/setting": ("not offered", ("GET", "POST")),
    "generate": ("not offered", _POST),
    "generate_stream": ("not offered", _POST),
}


_OF_NAMES: tuple[str, ...] = (
    "/predict/{deployment}",
    "/predict/{deployment}/versions/{version}",
    "/invocations/{deployment}",
    "/invocations/{deployment}/versions/{version}",
    "/status/{deployment}",
    "/v2/repository/{repository}/index",
    "/v2/repository/models/{deployment}/load",
    "/v2/repository/models/{deployment}/unload",
    "/v2/systemsharedmemory/{request}",
    "/v2/cudasharedmemory/{request}",
)


def all_routes() -> dict[str, Target]:
    """Every path that leads somewhere, with names in braces where any may stand, and its target.

    >>> all_routes()["/predict/{deployment}"].verbs
    ('POST',)
    """
    models = ("/v2/models/{deployment}", "/v2/models/{deployment}/versions/{version}")
    paths = [f"{model}/{rest}".rstrip("/") for model in models for rest in _OF_A_MODEL]
    found = {path: find(path) for path in (*_FIXED, *_OF_NAMES, *paths)}
    return {path: target for path, target in found.items() if target is not None}


def find(path: str) -> Target | None:
    """The target of a percent-decoded path; a slash at the end does not matter. None when there is nothing.

    >>> find("/v2/models/churn/versions/3/infer")
    Target(action='oip', verbs=('POST',), deployment='churn', version='3')
    >>> find("/predict/churn/").deployment
    'churn'
    """
    path = path.rstrip("/")
    fixed = _FIXED.get(path)
    if fixed is not None:
        return fixed
    head, *parts = path.lstrip("/").split("/")
    if head == "v2":
        return _of_the_protocol(parts)
    if head in ("predict", "invocations"):
        deployment, version, rest = _named(parts)
        if deployment and not rest:
            return Target("rows" if head == "predict" else "invocations", _POST, deployment, version)
    if head == "status" and len(parts) == 1:
        return Target("status", _GET, parts[0])
    return None


def _of_the_protocol(parts: list[str]) -> Target | None:
    if parts[0] == "models":
        deployment, version, rest = _named(parts[1:])
        found = _OF_A_MODEL.get("/".join(rest)) if deployment else None
        return None if found is None else Target(*found, deployment, version)
    if parts[0] == "repository":
        return _of_the_repository(parts[1:])
    if parts[0] in ("systemsharedmemory", "cudasharedmemory"):
        return Target("not offered", ("GET", "POST"))
    return None


def _of_the_repository(parts: list[str]) -> Target | None:
    if len(parts) == 2 and parts[1] == "index":
        return Target("repository index", _POST)
    if len(parts) == 3 and parts[0] == "models" and parts[2] in ("load", "unload"):
        return Target("load" if parts[2] == "load" else "unload", _POST, parts[1])
    return None


def _named(parts: list[str]) -> tuple[str, str | None, list[str]]:
    """Deployment, version and what follows of ``name[/versions/v][/rest...]``."""
    if len(parts) >= 3 and parts[1] == "versions":
        return parts[0], parts[2], parts[3:]
    return (parts[0] if parts else ""), None, parts[1:]
