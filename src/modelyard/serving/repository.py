"""The model repository extension: versions are unloaded and loaded again on the order of those who may.

An order holds for all workers. What is to be done is written down first; each worker sees it within a tenth of a second
and carries it out; the order is answered when all have, or as soon as one of them says why it cannot.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from modelyard.errors import DeadlinePassed, DeploymentNotFound, NotOffered, VersionNotReady
from modelyard.serving import boards, orders
from modelyard.serving.orders import Hold, Orders
from modelyard.serving.plane import DataPlane
from modelyard.serving.rights import AdminToken, allow
from modelyard.serving.status import DeploymentStatus

MOST_SECONDS = 600.0
"""How long an order may take whose caller names no deadline."""

_LOOK_SECONDS = 0.05
_NOTHING_YET = -1

_log = logging.getLogger("modelyard.serving")


class RepositoryRequest(msgspec.Struct):
    """The body of an order."""

    parameters: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Told:
    """What one worker says of the deployment, and up to which revision it has followed the orders."""

    revision: int
    status: DeploymentStatus | None


def loaded(told: Sequence[Told], revision: int) -> bool:
    """Whether all workers have loaded the wanted version, as ordered with that revision.

    Raises:
        VersionNotReady: one of them cannot; it says why.
        DeploymentNotFound: nobody wants it any more.
    """
    if not told or any(one.revision < revision for one in told):
        return False
    wanted = [one.status.wanted for one in told if one.status is not None]
    for version in wanted:
        if version is not None and version.state == "UNAVAILABLE":
            raise VersionNotReady(f"version {version.version} of {version.model!r} cannot be loaded: {version.reason}")
    return len(wanted) == len(told) and all(version is not None and version.state == "READY" for version in wanted)


def unloaded(told: Sequence[Told], revision: int) -> bool:
    """Whether no worker has a version of it loaded any more, as ordered with that revision."""
    if not told or any(one.revision < revision for one in told):
        return False
    left = [one.status for one in told if one.status is not None]
    return all(one.unloaded == "on request" and one.state == "UNAVAILABLE" for one in left)


@dataclass(slots=True, eq=False)
class Repository:
    """Takes orders and has this worker's `plane` follow all that are in force. Belongs to the event loop's thread.

    `folder` is where the workers share orders and boards; without it there is only this one. `publish` puts up this
    worker's board.
    """

    plane: DataPlane
    folder: Path | None = None
    admin: AdminToken | None = None
    publish: Callable[[], None] = lambda: None
    _stamp: tuple[int, int] = (0, 0)
    _alone: Orders = field(default_factory=Orders)

    def look(self) -> None:
        """Follow the orders as they are now, and drop those that a newer desired state has overtaken."""
        if self.folder is None:
            return
        try:
            stamp = orders.stamp(self.folder)
            if stamp != self._stamp:
                self.plane.follow(orders.read(self.folder))
                self._stamp = stamp
            self._drop(self.plane.overtaken())
        except (OSError, msgspec.MsgspecError) as error:
            _log.error("orders to load and unload cannot be followed: %s", error)

    async def load(self, name: str, parameters: Mapping[str, Any], seconds: float | None = None) -> dict[str, str]:
        """Load the version that is wanted, in all workers; what the index says of it then.

        Raises:
            DeploymentNotFound: nothing of that name is wanted.
            NotOffered: a configuration or files came with the order.
            VersionNotReady: it cannot be loaded; says why.
            DeadlinePassed: it takes longer than `seconds`; it goes on.
        """
        if parameters:
            raise NotOffered(
                f"only what is deployed is loaded, as it was packed: there is no place for {', '.join(parameters)}"
            )
        self._known(name)
        _log.info("%s: to be loaded, as ordered", name)
        revision = self._order(lambda before: before.load(name))
        return await self._until(name, lambda told: loaded(told, revision), seconds, "loading")

    async def unload(self, name: str, parameters: Mapping[str, Any], seconds: float | None = None) -> dict[str, str]:
        """Have no worker answer for `name` any more, once the requests they have are done; what the index then says.

        Raises:
            DeploymentNotFound: nothing of that name is wanted.
            NotOffered: an unknown parameter came with the order.
            DeadlinePassed: it takes longer than `seconds`; it goes on.
        """
        unknown = [key for key in parameters if key != "unload_dependents"]
        if unknown:
            raise NotOffered(f"unloading has no parameter {', '.join(unknown)}")
        wanted = self._known(name)
        _log.info("%s: to be unloaded, as ordered", name)
        revision = self._order(lambda before: before.unload(wanted, self.plane.generation))
        return await self._until(name, lambda told: unloaded(told, revision), seconds, "unloading")

    def allow(self, authorization: str | None) -> None:
        """Let pass who may give orders.

        Raises:
            PolicyDenied, NotAuthenticated: as `modelyard.serving.rights.allow`.
        """
        allow(self.admin, authorization)

    def _known(self, name: str) -> Any:
        wanted = self.plane.wanted(name)
        if wanted is None:
            raise DeploymentNotFound(name, self.plane.names())
        return wanted

    def _order(self, edit: Callable[[Orders], Orders]) -> int:
        if self.folder is None:
            self._alone = edit(self._alone)
            self.plane.follow(self._alone)
            return self._alone.revision
        revision = orders.change(self.folder, edit).revision
        self.look()
        return revision

    def _drop(self, holds: Sequence[Hold]) -> None:
        if holds and self.folder is not None:
            self.plane.follow(orders.change(self.folder, lambda before: before.drop(holds)))

    async def _until(
        self, name: str, done: Callable[[Sequence[Told]], bool], seconds: float | None, what: str
    ) -> dict[str, str]:
        until = time.monotonic() + (MOST_SECONDS if seconds is None else seconds)
        while not done(told := self._told(name)):
            if time.monotonic() >= until:
                raise DeadlinePassed(f"{name!r} is still {what}; see the repository index")
            await asyncio.sleep(_LOOK_SECONDS)
        status = next((one.status for one in told if one.status is not None), None)
        if status is None:
            return {"name": name, "version": "", "state": "UNAVAILABLE", "reason": "it is not wanted any more"}
        return {"name": name, "version": str(status.version), "state": status.state, "reason": status.reason}

    def _told(self, name: str) -> list[Told]:
        if self.folder is None:
            return [Told(self.plane.orders.revision, self.plane.only(name))]
        self.publish()
        there = boards.read_all(self.folder)
        alive = boards.all_living(there)
        told = [
            Told(board.orders, next((one for one in board.status.deployments if one.name == name), None))
            for board in there.workers
            if board.pid in alive
        ]
        # Who has only just been started may have read the orders as they were before, and has told nothing yet.
        silent = alive - {board.pid for board in there.workers}
        return told + [Told(_NOTHING_YET, None)] * len(silent)
