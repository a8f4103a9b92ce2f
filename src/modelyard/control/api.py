"""The control plane over HTTP: what is registered, what is deployed, and what the data plane should serve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Protocol

import msgspec
from fastapi import FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from modelyard import __version__
from modelyard.control import deployments
from modelyard.control.alerting import add_alerts
from modelyard.control.rollout_routes import add_rollouts
from modelyard.domain.names import Ref
from modelyard.errors import Conflict, Failed, ModelyardError, NotFound, Rejected, Unavailable
from modelyard.registry import Registry

HTTP_STATUS: dict[type[ModelyardError], int] = {
    NotFound: 404,
    Conflict: 409,
    Rejected: 422,
    Failed: 500,
    Unavailable: 503,
}

LOOPBACK_NAMES = ["127.0.0.1", "localhost", "[::1]"]
"""Host headers that are answered: a page on the web cannot reach this machine under a name of its own."""


class DeployRequest(BaseModel):
    """Put a version behind a deployment. `unproven` is the reason to do so without a passing parity report."""

    model_config = ConfigDict(extra="forbid")

    ref: str = Field(description="NAME@VERSION, NAME@ALIAS, or NAME for the newest")
    to: str = Field(description="name of the deployment")
    unproven: str | None = None
    by: str = ""


class Adding(Protocol):
    """Adds routes to the API, such as those of what is built on the control plane: it cannot import them itself."""

    def __call__(self, app: FastAPI, registry: Registry, to_json: Callable[[Any], Response]) -> None:
        """Add them; `to_json` makes an answer of anything that can be written as JSON."""
        ...


def create_app(registry: Registry, more: Sequence[Adding] = ()) -> FastAPI:
    """The control plane's API over `registry`, with the routes that `more` add."""
    app = FastAPI(title="Modelyard control plane", version=__version__, openapi_url="/openapi.json", redoc_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_NAMES)
    app.add_exception_handler(ModelyardError, _reported)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    _add_health(app, registry)
    _add_registry(app, registry)
    _add_deployments(app, registry)
    add_alerts(app, registry, _json)
    for add in (add_rollouts, *more):
        add(app, registry, _json)
    return app


def _add_health(app: FastAPI, registry: Registry) -> None:
    @app.get("/health")
    def health() -> dict[str, Any]:
        """Whether the control plane can read its database, and how often decisions were made."""
        return {"ok": True, "version": __version__, "generation": deployments.generation(registry)}


def _add_registry(app: FastAPI, registry: Registry) -> None:
    @app.get("/models")
    def list_models() -> Response:
        """All models, with their aliases."""
        return _json({"models": registry.models()})

    @app.get("/models/{model}/versions")
    def list_versions(model: str) -> Response:
        """All versions of a model, oldest first."""
        return _json({"versions": registry.versions(model)})

    @app.get("/models/{model}/versions/{number}")
    def show_version(model: str, number: int) -> Response:
        """One version, with its manifest."""
        version = registry.version(Ref(model, version=number))
        proven = registry.proof(version) is not None
        return _json({"version": version, "proven": proven, "manifest": registry.bundle(version).manifest})

    @app.get("/models/{model}/versions/{number}/reports")
    def list_reports(model: str, number: int) -> Response:
        """All parity reports on a version, oldest first."""
        return _json({"reports": registry.stored_reports(Ref(model, version=number))})


def _add_deployments(app: FastAPI, registry: Registry) -> None:
    @app.get("/desired-state")
    def desired_state(if_none_match: Annotated[str | None, Header()] = None) -> Response:
        """What the data plane is asked to serve. Answers 304 to the ETag of the present state."""
        tag = f'"{deployments.generation(registry)}"'
        if if_none_match == tag:
            return Response(status_code=304, headers={"ETag": tag})
        state = deployments.desired_state(registry)
        return _json(state, headers={"ETag": f'"{state.generation}"'})

    @app.get("/deployments")
    def list_deployments() -> Response:
        """The decision in force for each deployment."""
        return _json({"deployments": deployments.in_force(registry)})

    @app.post("/deployments")
    def deploy(asked: DeployRequest) -> Response:
        """Put a version behind a deployment, once it is proven."""
        return _json(deployments.deploy(registry, asked.ref, asked.to, asked.unproven, asked.by))

    @app.delete("/deployments/{name}")
    def undeploy(name: str, by: str = "") -> Response:
        """Take a deployment away."""
        return _json(deployments.undeploy(registry, name, by))

    @app.get("/deployments/{name}/history")
    def history(name: str) -> Response:
        """Every decision about a deployment, oldest first."""
        return _json({"decisions": deployments.history(registry, name)})


def _json(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = msgspec.json.encode(data, enc_hook=str)
    return Response(body, status, headers, media_type="application/json")


async def _reported(_request: Request, error: Exception) -> Response:
    status = next((status for kind, status in HTTP_STATUS.items() if isinstance(error, kind)), 500)
    return _json({"error": str(error)}, status)


async def _invalid(_request: Request, error: Exception) -> Response:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    told = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)
    return _json({"error": told or "the request cannot be read"}, 422)


async def _refused(_request: Request, error: Exception) -> Response:
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "")
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else None
    return _json({"error": detail}, status, headers)
