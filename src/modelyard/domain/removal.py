"""Removing: what may go, decided from a list of what refers to it.

What was made from a thing, or points at it, keeps it; what it was made from does not. So things go from the end of
their story to its beginning: aliases and deployments, then the version, then the run that made it, then the data it
read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from modelyard.domain.names import Kind

How: TypeAlias = Literal[
    "alias",
    "deployment",
    "rollout",
    "was deployed",
    "loaded by",
    "read by",
    "source of",
    "made",
    "took",
    "under way",
]
"""In what way something refers to a thing."""

_SAID: dict[How, str] = {
    "alias": "the alias {} points at it: modelyard alias {} --remove takes it away",
    "deployment": "the deployment {0} asks for it: modelyard undeploy {0}, or deploy another version",
    "rollout": "a rollout of the deployment {0} to it is open: modelyard rollback {0}",
    "was deployed": "the deployment {} answered with it; predictions recorded then could not be computed again: "
    "--give-up-replay accepts that",
    "loaded by": "the run {0} loaded it: modelyard remove run:{0}",
    "source of": "the version {0} of data was made from it: modelyard remove data:{0}",
    "took": "the version {0} of data was taken within it: modelyard remove data:{0}",
    "read by": "the run {0} read it: modelyard remove run:{0}",
    "made": "the version {0} was made by it: modelyard remove {0}",
    "under way": "it is under way",
}


@dataclass(frozen=True, slots=True)
class Reference:
    """One thing, `what`, that refers to what is to be removed.

    >>> print(Reference("deployment", "live"))
    the deployment live asks for it: modelyard undeploy live, or deploy another version
    """

    how: How
    what: str

    def __str__(self) -> str:
        named = self.what.replace("@", " ") if self.how == "alias" else self.what
        return _SAID[self.how].format(self.what, named)


@dataclass(frozen=True, slots=True)
class Removal:
    """A thing was removed. `number` is None for a run, `name` its id; `given_up` are references that were given up."""

    kind: Kind
    name: str
    number: int | None
    digest: str
    by: str
    why: str
    at: datetime
    given_up: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """How it was written: ``flights-delay@3``, ``data:flights@1``, ``run:20260412-081503-9f2c11``."""
        written = self.name if self.number is None else f"{self.name}@{self.number}"
        return written if self.kind == "model" else f"{self.kind}:{written}"

    def __str__(self) -> str:
        return f"{self.ref} was removed on {self.at:%Y-%m-%d %H:%M} UTC by {self.by or 'unknown'}: {self.why}"


def in_the_way(references: Sequence[Reference], *, give_up_replay: bool = False) -> tuple[Reference, ...]:
    """Those of these references that keep a thing from being removed.

    >>> past = Reference("was deployed", "live")
    >>> in_the_way([past]), in_the_way([past], give_up_replay=True)
    ((Reference(how='was deployed', what='live'),), ())
    """
    return tuple(one for one in references if not (give_up_replay and one.how == "was deployed"))
