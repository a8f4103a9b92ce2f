"""Closes promotions that the data plane has carried out, and rehearsals that were left: a loop beside the API."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Self

from modelyard.control import rollouts
from modelyard.control.rehearsing import end_forgotten
from modelyard.control.rollouts import Rollout
from modelyard.control.up import running
from modelyard.control.watch import Sighting, judge, look
from modelyard.errors import Conflict, ModelyardError, RolloutNotFound, ServiceUnreachable
from modelyard.registry import Registry

LOOK_SECONDS = 0.5
TIDY_SECONDS = 60.0

_log = logging.getLogger("modelyard.control")


def is_carried_out(rollout: Rollout, seen: Sighting) -> bool:
    """Whether a promotion may be closed: the data plane answers with the candidate in the deployment's own place."""
    return rollout.state == "promoting" and judge(rollout.awaited(), seen).state == "done"


def close_promotions(registry: Registry) -> tuple[str, ...]:
    """Close what has been carried out; the deployments whose promotion was closed."""
    waiting = [rollout for rollout in rollouts.open_rollouts(registry) if rollout.state == "promoting"]
    there = running(registry.home) if waiting else None
    if there is None:
        return ()
    seen, closed = look(there.data.url), list[str]()
    for rollout in waiting:
        if is_carried_out(rollout, seen):
            with suppress(RolloutNotFound, Conflict):  # somebody else was quicker
                rollouts.finish(registry, rollout.deployment)
                closed.append(rollout.deployment)
    return tuple(closed)


class Closer:
    """Looks now and then, in a thread of its own."""

    def __init__(self, registry: Registry) -> None:
        self._registry, self._over, self._tidied = registry, threading.Event(), float("-inf")
        self._thread = threading.Thread(target=self._run, name="closing", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                self._look()
            except ServiceUnreachable:
                continue  # the data plane is on its way back
            except ModelyardError as error:
                _log.warning("promotions cannot be closed now: %s", error)

    def _look(self) -> None:
        for name in close_promotions(self._registry):
            _log.info("%s: the promotion is carried out", name)
        if time.monotonic() - self._tidied > TIDY_SECONDS:
            self._tidied = time.monotonic()
            for name in end_forgotten(self._registry, datetime.now(UTC)):
                _log.info("%s: a rehearsal that was left is ended", name)
