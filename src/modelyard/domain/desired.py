"""Desired state: what the data plane is asked to serve. One of the three written forms between the planes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deployment:
    """One named service and the version it should answer with.

    `bundle` is a local directory or the address of one in an object store; `digest` is what it must hash to.
    `unproven` records that the version was let through without a passing parity report, and why. `objective_ms` is
    within how many milliseconds calls are to be answered, None for what the server takes as usual.
    """

    name: str
    model: str
    version: int
    digest: str
    bundle: str
    unproven: str | None = None
    objective_ms: float | None = None


@dataclass(frozen=True, slots=True)
class DesiredState:
    """All deployments at one `generation`; a larger generation replaces a smaller one."""

    generation: int
    deployments: tuple[Deployment, ...] = ()
