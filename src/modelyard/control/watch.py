"""A look at the data plane from outside, to see whether it has done what was decided."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import httpx
import msgspec

from modelyard.control.deployments import Decision
from modelyard.errors import ServiceUnreachable

LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Wanted:
    """The version that the desired state names for a deployment, as the data plane sees it."""

    model: str
    version: int
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Served:
    """One deployment as the data plane reports it: what answers now, and what is `wanted`."""

    name: str
    model: str
    version: int
    state: str
    reason: str = ""
    runtime: str = ""
    wanted: Wanted | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """The data plane's own report: the generation it is carrying out, and every deployment."""

    ready: bool
    reason: str
    generation: int
    deployments: tuple[Served, ...]

    def find(self, name: str) -> Served | None:
        """The deployment of that name, if the data plane has it."""
        return next((one for one in self.deployments if one.name == name), None)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a decision has got: ``done``, ``waiting`` or ``failed``, and why."""

    state: Literal["done", "waiting", "failed"]
    reason: str = ""


def judge(decision: Decision, seen: Sighting) -> Progress:
    """Say how far the data plane has got with `decision`.

    >>> from datetime import datetime, UTC
    >>> asked = Decision(2, "live", "churn", 3, None, "", datetime.now(UTC))
    >>> judge(asked, Sighting(False, "", 1, ())).state
    'waiting'
    >>> judge(asked, Sighting(True, "", 2, (Served("live", "churn", 3, "READY", wanted=None),))).state
    'done'
    """
    if seen.generation < decision.generation:
        return Progress("waiting", "the data plane has not seen the decision yet")
    there = seen.find(decision.deployment)
    if decision.version is None:
        return Progress("done") if there is None else Progress("waiting", "it is still draining")
    if there is None:
        return Progress("waiting", "the data plane is about to load it")
    if (there.model, there.version, there.state) == (decision.model, decision.version, "READY"):
        return Progress("done")
    return _judge_wanted(there, there.wanted)


def _judge_wanted(there: Served, wanted: Wanted | None) -> Progress:
    state, reason = (there.state, there.reason) if wanted is None else (wanted.state, wanted.reason)
    if state == "UNAVAILABLE":
        other = wanted is not None and (there.model, there.version) != (wanted.model, wanted.version)
        still = f"; {there.model}@{there.version} still answers" if other and there.state == "READY" else ""
        return Progress("failed", f"{reason}{still}")
    return Progress("waiting", reason or state.lower())


def look(url: str, timeout: float = 5.0) -> Sighting:
    """What the data plane at `url` says of itself.

    Raises:
        ServiceUnreachable: nothing answers there as a data plane would.
    """
    try:
        answer = httpx.get(f"{url}/status", timeout=timeout, trust_env=False)
        return msgspec.json.decode(answer.content, type=Sighting)
    except (httpx.HTTPError, msgspec.DecodeError) as error:
        raise ServiceUnreachable(f"the data plane at {url} does not answer: {error}") from error


def wait_until_done(url: str, decision: Decision, seconds: float, tell: Callable[[str], None]) -> Progress:
    """Look until `decision` is carried out or has failed; after `seconds` the last sight of it stands.

    `tell` gets each new reason to wait.
    """
    until, told = time.monotonic() + seconds, ""
    while True:
        try:
            progress = judge(decision, look(url))
        except ServiceUnreachable as error:  # it may be on its way back: the supervisor restarts it
            progress = Progress("waiting", str(error))
        if progress.state != "waiting" or time.monotonic() > until:
            return progress
        if progress.reason != told:
            told = progress.reason
            tell(told)
        time.sleep(LOOK_SECONDS)
