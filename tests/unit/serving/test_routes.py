"""Paths to targets."""

from __future__ import annotations

import pytest

from modelyard.serving.routes import find


@pytest.mark.parametrize(
    ("path", "action", "deployment", "version"),
    [
        ("/v2", "server metadata", None, None),
        ("/v2/", "server metadata", None, None),
        ("/v2/health/live", "live", None, None),
        ("/v2/health/ready/", "ready", None, None),
        ("/v2/models", "models", None, None),
        ("/v2/models/churn", "model metadata", "churn", None),
        ("/v2/models/churn/versions/3", "model metadata", "churn", "3"),
        ("/v2/models/churn/versions/v 3/ready", "model ready", "churn", "v 3"),
        ("/v2/models/churn/ready", "model ready", "churn", None),
        ("/v2/models/churn/infer", "oip", "churn", None),
        ("/v2/models/churn/versions/3/infer/", "oip", "churn", "3"),
        ("/v2/models/versions/infer", "oip", "versions", None),
        ("/v2/models/stats", "statistics", None, None),
        ("/v2/models/churn/stats", "statistics", "churn", None),
        ("/v2/models/churn/versions/3/config", "configuration", "churn", "3"),
        ("/v2/models/churn/trace/setting", "not offered", "churn", None),
        ("/v2/models/churn/generate_stream", "not offered", "churn", None),
        ("/v2/logging", "not offered", None, None),
        ("/v2/systemsharedmemory/region/r/register", "not offered", None, None),
        ("/v2/repository/index", "repository index", None, None),
        ("/v2/repository/mine/index", "repository index", None, None),
        ("/v2/repository/models/churn/load", "load", "churn", None),
        ("/v2/repository/models/churn/unload", "unload", "churn", None),
        ("/predict/churn", "rows", "churn", None),
        ("/predict/churn/versions/3/", "rows", "churn", "3"),
        ("/invocations", "invocations", None, None),
        ("/invocations/churn", "invocations", "churn", None),
        ("/labels", "labels", None, None),
        ("/status", "status", None, None),
        ("/status/churn", "status", "churn", None),
        ("/ping", "ready", None, None),
    ],
)
def test_a_path_has_a_target(path: str, action: str, deployment: str | None, version: str | None) -> None:
    target = find(path)
    assert target is not None
    assert (target.action, target.deployment, target.version) == (action, deployment, version)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "//",
        "/v1",
        "/v2/health",
        "/v2/nothing",
        "/v2/models/churn/nothing",
        "/v2/models/churn/versions",
        "/v2/models//infer",
        "/v2/repository",
        "/v2/repository/models/churn/delete",
        "/predict",
        "/predict/churn/versions",
        "/predict/churn/more",
        "/status/churn/more",
        "/LABELS",
    ],
)
def test_other_paths_have_none(path: str) -> None:
    assert find(path) is None
