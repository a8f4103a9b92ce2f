"""What the data plane says of itself: one entry a deployment, and whether the whole is ready."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from modelyard.domain.desired import CANDIDATE

State: TypeAlias = Literal["READY", "LOADING", "UNAVAILABLE", "UNLOADING"]
"""The words of the Open Inference Protocol's repository index."""


Unloaded: TypeAlias = Literal["", "on request", "for memory"]
"""Why a version that is wanted is not loaded: somebody who may has ordered so, or to keep within the memory budget, and
then it is ready on request. Empty when it is not so.
"""


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version in one deployment. `reason` says why it is not READY, or that it is so on request only."""

    model: str
    version: int
    digest: str
    state: State
    reason: str = ""
    runtime: str = ""
    pid: int | None = None
    unloaded: Unloaded = ""


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    """One deployment: what answers now, and what was asked for.

    `model`, `version`, `digest`, `state`, `reason` and `runtime` speak of the version that answers now, or, while none
    does, of the wanted one. `wanted` speaks of the version that the desired state names; when it is the one that
    answers they agree, otherwise it is LOADING, or UNAVAILABLE with the reason why the older one still answers.
    """

    name: str
    model: str
    version: int
    digest: str
    state: State
    reason: str
    runtime: str
    wanted: VersionStatus | None
    pid: int | None = None
    unloaded: Unloaded = ""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether everything that should answer does; if not, `reason` says what does not."""

    ready: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PlaneStatus:
    """The whole data plane. `generation` is the desired state being carried out, -1 before any is known."""

    ready: bool
    reason: str
    generation: int
    deployments: tuple[DeploymentStatus, ...]


def readiness(
    deployments: tuple[DeploymentStatus, ...], *, known: bool, draining: bool = False, waiting_for: str = ""
) -> Readiness:
    """Decide whether the server is ready: a statement about what should answer, not about what happens to be loaded.

    An empty server is not ready: nothing it could be asked for would be answered. What was unloaded on request should
    not answer, and does not count, as long as something else does. Nor do candidates: what they cannot answer is
    answered by the version that they are to replace.

    >>> readiness((), known=True).reason
    'nothing is deployed here'
    """
    if draining:
        return Readiness(False, "the server is stopping")
    if not known:
        return Readiness(False, waiting_for or "it is not known yet what to serve")
    if not deployments:
        return Readiness(False, "nothing is deployed here")
    asked = [one for one in deployments if not one.name.endswith(CANDIDATE)]
    counted = [one for one in asked if one.unloaded != "on request"]
    if not counted:
        return Readiness(False, "nothing is loaded: all that is deployed here was unloaded on request")
    missing = [f"{one.name}: {one.reason or one.state.lower()}" for one in counted if one.state != "READY"]
    return Readiness(not missing, "; ".join(missing))
