"""Looks after watched deployments: ``python -m modelyard.retraining.following --home DIR --announce FILE``.

A small loop that decides and starts; each retraining is a process of its own, so that what it loads goes with it.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.errors import ModelyardError
from modelyard.home import Home
from modelyard.retraining.watched import Watch, watches

if TYPE_CHECKING:
    from modelyard.registry import Registry
    from modelyard.retraining.plan import Plan
    from modelyard.retraining.triggers import Due

EVERY = 5.0
"""Seconds between two looks."""

LABELS_EVERY = 60.0
"""Seconds between two counts of labels, and at least twenty times what one takes."""

PATIENCE = 60.0
"""Seconds in which no second process is started for a deployment, also where the first ended without a report."""

GRACE = 20.0
"""Seconds in which a retraining that is asked to end may write its report."""


@dataclass(slots=True)
class Following:
    """What one such process knows: retrainings that it started, and what it has said already."""

    home: Home
    tell: Callable[[str], None]
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _started: dict[str, float] = field(default_factory=dict)
    _said: dict[str, str] = field(default_factory=dict)
    _counted: dict[str, tuple[float, int]] = field(default_factory=dict)
    _registry: Registry | None = None

    def follow(self, stop: threading.Event, every: float = EVERY) -> None:
        """Look until `stop` is set, then end what was started here."""
        try:
            while not stop.is_set():
                for watch in watches(self.home):
                    self._look(watch)
                self._reap()
                stop.wait(every)
        finally:
            self._end_all()
            if self._registry is not None:
                self._registry.close()

    def _look(self, watch: Watch) -> None:
        name = watch.deployment
        if name in self._running or time.monotonic() - self._started.get(name, -PATIENCE) < PATIENCE:
            return
        try:
            found = self._due(watch)
        except (ModelyardError, OSError) as error:
            self._say_once(name, f"{name}: {error}")
            return
        self._said.pop(name, None)
        if found is not None:
            self._start(watch, found)

    def _due(self, watch: Watch) -> Due | None:
        # Nothing is loaded before something is watched: most of the memory is libraries.
        from modelyard.registry import Registry
        from modelyard.retraining.looking import gather, plan_for
        from modelyard.retraining.triggers import due

        if self._registry is None:
            self._registry = Registry.open(self.home)
        plan = plan_for(watch)
        return due(plan, gather(self._registry, watch, self._labels(watch, plan))) if plan.on else None

    def _labels(self, watch: Watch, plan: Plan) -> int | None:
        if "labels" not in plan.on:
            return None
        until, known = self._counted.get(watch.deployment, (0.0, 0))
        began = time.monotonic()
        if began >= until:
            from modelyard.retraining.looking import count_labels

            known = count_labels(self.home, watch.deployment)
            ended = time.monotonic()
            self._counted[watch.deployment] = (ended + max(LABELS_EVERY, 20 * (ended - began)), known)
        return known

    def _start(self, watch: Watch, found: Due) -> None:
        words = ["--home", str(self.home.path), "--project", watch.project, "--trigger", found.trigger]
        words += ["--why", found.why, "--alerts", ",".join(map(str, found.alerts)), "--", watch.deployment]
        self.tell(f"{watch.deployment}: trained again, {found.why}")
        self._started[watch.deployment] = time.monotonic()
        self._running[watch.deployment] = subprocess.Popen(
            [sys.executable, "-P", "-m", "modelyard.retraining", *words], stdin=subprocess.DEVNULL
        )

    def _reap(self) -> None:
        for name, process in list(self._running.items()):
            if process.poll() is not None:
                del self._running[name]

    def _end_all(self) -> None:
        for process in self._running.values():
            process.terminate()
        until = time.monotonic() + GRACE
        for process in self._running.values():
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _say_once(self, name: str, line: str) -> None:
        if self._said.get(name) != line:
            self._said[name] = line
            self.tell(line)


def parse() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m modelyard.retraining.following", description="Trains again.")
    parser.add_argument("--home", type=Path, default=None)
    parser.add_argument("--every", type=float, default=EVERY, help="seconds between two looks")
    parser.add_argument("--announce", type=Path, default=None, help="where to write that it runs")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stderr.write(f"retraining: {line}\n")


def main() -> int:
    """Look after deployments until told to stop."""
    from modelyard.control import announce

    options, stop = parse(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if options.announce is not None:
        announce.write(options.announce, announce.Announcement("", os.getpid()))
    Following(Home.locate(options.home), _say).follow(stop, options.every)
    return 0


if __name__ == "__main__":
    sys.exit(main())
