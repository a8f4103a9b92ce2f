"""Rollouts over HTTP: begun, looked at, steered and ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from modelyard.control import rehearsing, rollouts, steering
from modelyard.control.progress import progress
from modelyard.control.rollouts import Strategy
from modelyard.registry import Registry
from modelyard.rollout.written import policy_of


class RolloutRequest(BaseModel):
    """Put a version beside what a deployment answers with."""

    model_config = ConfigDict(extra="forbid")

    ref: str = Field(description="NAME@VERSION, NAME@ALIAS, or NAME for the newest")
    strategy: Strategy
    share: float | None = Field(None, description="with ab: which part of the calls the candidate answers, 0 to 1")
    key: str = Field("", description="calls with the same value of this input go to the same version")
    policy: dict[str, Any] | None = Field(None, description="with canary: what [rollout] of modelyard.toml may hold")
    unproven: str | None = None
    by: str = ""


class ShareRequest(BaseModel):
    """Give the candidate another part of the calls."""

    model_config = ConfigDict(extra="forbid")

    share: float
    reason: str = ""
    by: str = ""


class ReasonRequest(BaseModel):
    """Change a rollout, for a reason that is kept."""

    model_config = ConfigDict(extra="forbid")

    reason: str = ""
    by: str = ""


def add_rollouts(app: FastAPI, registry: Registry, to_json: Callable[[Any], Response]) -> None:
    """Add the routes of rollouts."""
    _add_looks(app, registry, to_json)
    _add_ends(app, registry, to_json)
    _add_steering(app, registry, to_json)


def _add_looks(app: FastAPI, registry: Registry, to_json: Callable[[Any], Response]) -> None:
    @app.get("/deployments/{name}/rollout")
    def show_rollout(name: str) -> Response:
        """The open rollout of a deployment, or the last one; of a canary with how far it has got."""
        rollout = rollouts.shown(registry, name)
        return to_json({"rollout": rollout, "progress": progress(registry, rollout)})

    @app.get("/deployments/{name}/rehearsals")
    def list_rehearsals(name: str) -> Response:
        """How the way back was rehearsed, the last time first."""
        return to_json({"rehearsals": rehearsing.rehearsed(registry, name)})

    @app.get("/deployments/{name}/rollout/decisions")
    def list_decisions(name: str, most: Annotated[int, Query(ge=1, le=10_000)] = 1000) -> Response:
        """What was decided last about the newest canary of a deployment, oldest first, each with what it rested on."""
        return to_json({"decisions": steering.decided(registry, rollouts.shown(registry, name), most)})


def _add_ends(app: FastAPI, registry: Registry, to_json: Callable[[Any], Response]) -> None:
    @app.post("/deployments/{name}/rollout")
    def begin_rollout(name: str, asked: RolloutRequest) -> Response:
        """Put a version beside what the deployment answers with."""
        options: dict[str, Any] = {"share": asked.share, "key": asked.key, "override_reason": asked.unproven}
        if asked.policy is not None:
            options["policy"] = policy_of(asked.policy, "policy")
        return to_json(rollouts.begin(registry, asked.ref, name, asked.strategy, **options, by=asked.by))

    @app.post("/deployments/{name}/rollout/share")
    def set_share(name: str, asked: ShareRequest) -> Response:
        """Give the candidate of an A/B rollout another part of the calls."""
        return to_json(rollouts.set_share(registry, name, asked.share, asked.reason, asked.by))

    @app.post("/deployments/{name}/rollout/promote")
    def promote(name: str, asked: ReasonRequest) -> Response:
        """Let the candidate answer all calls, and take the place of what answered before."""
        return to_json(rollouts.promote(registry, name, asked.reason, asked.by))

    @app.post("/deployments/{name}/rollout/rollback")
    def rollback(name: str, asked: ReasonRequest) -> Response:
        """Take the candidate away; the version before answers all calls."""
        return to_json(rollouts.rollback(registry, name, asked.reason, asked.by))


def _add_steering(app: FastAPI, registry: Registry, to_json: Callable[[Any], Response]) -> None:
    @app.post("/deployments/{name}/rollout/pause")
    def pause(name: str, asked: ReasonRequest) -> Response:
        """Have a canary stay where it is until it is resumed."""
        return to_json(steering.pause(registry, name, asked.reason, asked.by))

    @app.post("/deployments/{name}/rollout/resume")
    def resume(name: str, asked: ReasonRequest) -> Response:
        """Have a canary that was paused go on."""
        return to_json(steering.resume(registry, name, asked.reason, asked.by))

    @app.post("/deployments/{name}/rollout/approve")
    def approve(name: str, asked: ReasonRequest) -> Response:
        """Agree that the candidate of a canary answers everybody."""
        return to_json(steering.approve(registry, name, asked.reason, asked.by))

    @app.post("/deployments/{name}/rollout/advance")
    def advance(name: str, asked: ReasonRequest) -> Response:
        """Take the next step of a canary now."""
        return to_json(steering.advance(registry, name, asked.reason, asked.by))
