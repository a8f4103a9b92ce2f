"""Retrainings over HTTP: begun, listed, looked at. `modelyard up` has the control plane add these routes to its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from modelyard.control import deployments, rollouts
from modelyard.errors import Conflict, DeploymentNotFound
from modelyard.registry import Registry
from modelyard.retraining.report import Report
from modelyard.retraining.turns import Turns

LOOK_SECONDS = 0.1

_TEXT = r"^[^\x00]*$"
"""What can be an argument of a process."""


class RetrainRequest(BaseModel):
    """Train a deployment's model again: as the project says that is watched for it, else as it was recorded."""

    model_config = ConfigDict(extra="forbid")

    why: str = Field("", max_length=10_000, pattern=_TEXT, description="a line to keep")
    by: str = Field("", max_length=256, pattern=_TEXT)


def add_routes(app: FastAPI, registry: Registry, to_json: Callable[[Any], Response]) -> None:
    """Add the routes of retrainings to an application."""
    turns, starter = Turns(registry.database), Starter(registry)

    @app.get("/retrainings")
    def list_retrainings(deployment: str = "", most: Annotated[int, Query(ge=1, le=1000)] = 50) -> Response:
        """Retrainings of a deployment, or of all, the newest first, each with its report."""
        return to_json({"retrainings": turns.listed(deployment, most)})

    @app.get("/retrainings/{number}")
    def show_retraining(number: int) -> Response:
        """One retraining: why, data, run, challenger, both versions compared, gates, what came of it."""
        return to_json({"retraining": turns.get(number)})

    @app.post("/deployments/{name}/retrainings")
    async def begin_retraining(name: str, asked: RetrainRequest) -> Response:
        """Train again in a process of its own, which ends with the control plane. The answer is how it has begun."""
        return to_json({"retraining": await starter.begin(name, asked)})


class Starter:
    """Begins retrainings, in processes of their own. Its methods are for the thread of the event loop.

    A process ends with the thread that began it, and threads that answer calls come and go.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry, self._turns = registry, Turns(registry.database)
        self._heard: set[asyncio.Task[str]] = set()

    async def begin(self, deployment: str, asked: RetrainRequest) -> Report:
        """Begin one, and wait until it is known under its number.

        Raises:
            DeploymentNotFound: there is no such deployment.
            Conflict: it is being trained again already, a rollout is open, or it cannot begin for another reason.
        """
        last = await asyncio.to_thread(self._last, deployment)
        words = ["--home", str(self._registry.home.path), "--trigger", "hand", "--why", asked.why, "--by", asked.by]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "modelyard.retraining", *words, "--", deployment),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        heard = asyncio.create_task(_heard(process))
        self._heard.add(heard)
        heard.add_done_callback(self._heard.discard)
        while True:
            newest = await asyncio.to_thread(self._turns.listed, deployment, 1)
            if newest and newest[0].id > last:
                return newest[0]
            if heard.done():
                raise Conflict(heard.result() or f"{deployment!r} was not trained again; nothing says why")
            await asyncio.sleep(LOOK_SECONDS)

    def _last(self, deployment: str) -> int:
        """The number of its last retraining; 0 without one."""
        there = sorted(each.deployment for each in deployments.in_force(self._registry) if each.model is not None)
        if deployment not in there:
            raise DeploymentNotFound(deployment, there)
        if any(each.deployment == deployment for each in rollouts.open_rollouts(self._registry)):
            raise Conflict(f"a rollout of {deployment!r} is open: a challenger would have to wait for its end")
        known = self._turns.listed(deployment, 1)
        return known[0].id if known else 0


async def _heard(process: asyncio.subprocess.Process) -> str:
    """Pass on what a process says, until it ends; its last line."""
    last = ""
    assert process.stderr is not None  # noqa: S101 - it was asked for
    async for line in process.stderr:
        text = line.decode("utf-8", "replace")
        sys.stderr.write(text)
        last = text.strip() or last
    await process.wait()
    return last
