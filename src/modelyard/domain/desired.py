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


CANDIDATE = ".candidate"
"""What the name of a deployment's candidate ends with; no deployment that somebody asks for has such a name."""


@dataclass(frozen=True, slots=True)
class Split:
    """Some calls for the deployment `name` are answered by its candidate, which is a deployment of its own.

    `share` is which part of the calls, chosen by `salt` and the key of the call: what it names as its key, else the
    value of the input `key` in its first row, where one is given here, else its prediction id. With `shadow` the
    candidate computes what the deployment is asked as well, and nobody sees its answers.
    """

    name: str
    share: float
    salt: str
    key: str = ""
    shadow: bool = False

    @property
    def candidate(self) -> str:
        """The name of the candidate's deployment.

        >>> Split("flights", 0.05, "7").candidate
        'flights.candidate'
        """
        return self.name + CANDIDATE


@dataclass(frozen=True, slots=True)
class DesiredState:
    """All deployments at one `generation`, candidates included; a larger generation replaces a smaller one."""

    generation: int
    deployments: tuple[Deployment, ...] = ()
    splits: tuple[Split, ...] = ()
