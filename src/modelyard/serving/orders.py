"""What operators have ordered of a running data plane besides its desired state: versions that are to be unloaded.

The orders lie in a small file beside the workers' boards, so that all workers follow the same ones and a worker that is
started again does too. They end with the data plane.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from modelyard.domain.desired import Deployment
from modelyard.serving.desired import write_whole

_FILE, _LOCK = "orders", "orders.lock"


class Hold(msgspec.Struct, frozen=True):
    """A version that is kept unloaded, and the generation of the desired state that wanted it then."""

    deployment: Deployment
    generation: int


class Orders(msgspec.Struct, frozen=True):
    """All orders in force. `revision` grows with each change; `asked` has the revision of the last order to load."""

    revision: int = 0
    unloaded: tuple[Hold, ...] = ()
    asked: dict[str, int] = {}

    def held(self, name: str) -> Hold | None:
        """The order that keeps the deployment unloaded, if there is one."""
        return next((hold for hold in self.unloaded if hold.deployment.name == name), None)

    def unload(self, deployment: Deployment, generation: int) -> Orders:
        """With the order to keep that version unloaded.

        >>> churn = Deployment("churn", "churn", 1, "", "bundles/1")
        >>> orders = Orders().unload(churn, generation=7)
        >>> orders.held("churn").generation, orders.revision
        (7, 1)
        """
        asked = {name: revision for name, revision in self.asked.items() if name != deployment.name}
        return Orders(self.revision + 1, (*self._without({deployment.name}), Hold(deployment, generation)), asked)

    def load(self, name: str) -> Orders:
        """With the order to load the deployment's version now."""
        revision = self.revision + 1
        return Orders(revision, self._without({name}), {**self.asked, name: revision})

    def drop(self, holds: Collection[Hold]) -> Orders:
        """Without orders that have been overtaken; the same when none of them is in force."""
        left = tuple(hold for hold in self.unloaded if hold not in holds)
        return self if left == self.unloaded else Orders(self.revision + 1, left, self.asked)

    def _without(self, names: Collection[str]) -> tuple[Hold, ...]:
        return tuple(hold for hold in self.unloaded if hold.deployment.name not in names)


_DECODER = msgspec.json.Decoder(Orders)


def stamp(folder: Path) -> tuple[int, int]:
    """Changes whenever the orders do; cheap to look at."""
    try:
        found = (folder / _FILE).stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns


def read(folder: Path) -> Orders:
    """The orders in force.

    Raises:
        OSError, msgspec.MsgspecError: they cannot be read.
    """
    try:
        return _DECODER.decode((folder / _FILE).read_bytes())
    except FileNotFoundError:
        return Orders()


def change(folder: Path, edit: Callable[[Orders], Orders]) -> Orders:
    """Replace the orders by what `edit` makes of them, one process after the other; the new ones.

    Raises:
        OSError: the folder cannot be written.
    """
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = read(folder)
        after = edit(before)
        if after != before:
            write_whole(folder / _FILE, msgspec.json.encode(after))
        return after
