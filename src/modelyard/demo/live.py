"""The live part of the story: both planes, two deployments of one version, and a year that is streamed to each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, perf_counter, sleep
from typing import TYPE_CHECKING

from rich.console import Console

from modelyard.demo.telling import MODEL, TWIN, step
from modelyard.errors import Failed

if TYPE_CHECKING:
    import pandas as pd

    from modelyard.control.up import Running
    from modelyard.demo.stream import Tally, Traffic
    from modelyard.demo.watching import Watched
    from modelyard.home import Home
    from modelyard.registry import Registry, Version

START_SECONDS = 60.0
_CALLS_A_LOOK = 24


@dataclass(frozen=True, slots=True)
class Years:
    """The flights as they were, and their twin."""

    flights: pd.DataFrame
    twin: pd.DataFrame


@contextmanager
def services(home: Home, port: int, console: Console) -> Iterator[Running]:
    """Both planes on `home`, as ``modelyard up`` starts them; stopped when the block is left.

    Raises:
        Failed: when they do not come up.
    """
    from modelyard.control.up import running

    command = [sys.executable, "-P", "-m", "modelyard.cli.app", "up", "--port", str(port), "--json"]
    environment = {**os.environ, "MODELYARD_HOME": str(home.path)}
    # Ctrl-C is for the demo, which then stops the services in order: hence a session of their own.
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        with step(console, "start the control plane and the data plane") as said:
            until = monotonic() + START_SECONDS
            while (there := running(home)) is None:
                if process.poll() is not None or monotonic() > until:
                    raise Failed(f"the services did not start: {_last_words(process)}")
                sleep(0.05)
            said.append(there.data.url)
        yield there
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=START_SECONDS)


def _last_words(process: subprocess.Popen[bytes]) -> str:
    process.kill()
    return process.communicate()[1].decode(errors="replace").strip()[-500:] or "they said nothing"


def put_to_work(registry: Registry, version: Version, url: str, console: Console) -> None:
    """Deploy `version` under both names, watched day by day, and wait until it answers.

    Raises:
        Failed: when the data plane refuses it.
    """
    from modelyard.control.deployments import deploy
    from modelyard.control.watch import wait_until_done
    from modelyard.demo.watching import by_days

    with step(console, f"deploy {version.ref} twice; the server replays the recorded answers before it answers"):
        for name in (MODEL, TWIN):
            decision = deploy(registry, version.ref, name, by="demo")
            progress = wait_until_done(url, decision, START_SECONDS, tell=lambda _: None)
            if progress.state != "done":
                raise Failed(f"{version.ref} is not served as {name}: {progress.reason}")
        by_days(registry, (MODEL, TWIN))


class Streams:
    """Both years on their way, side by side; alerts are told as they come."""

    def __init__(self, registry: Registry, flights: Traffic, twin: Traffic, console: Console) -> None:
        from modelyard.demo.watching import Bell

        self.flights, self.twin, self._console = flights, twin, console
        self._bell = Bell(registry, (MODEL, TWIN), self._ring)
        self.seconds = 0.0
        """How long hours were sent, and how many flights in them: those that are sent one by one are paced."""
        self.sent = 0

    @property
    def tally(self) -> Tally:
        """What happened to both."""
        return self.flights.tally.with_other(self.twin.tally)

    def until(self, day: str | None, flights: int) -> None:
        """Send all hours before a day (None: all there are); about so many `flights`."""
        import pandas as pd
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        last = None if day is None else pd.Timestamp(day)
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        start, before, twins = perf_counter(), self.flights.tally.flights, self.twin.tally.flights
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task("streaming", total=flights)

            def show(moment: pd.Timestamp, tally: Tally) -> None:
                if tally.requests % _CALLS_A_LOOK == 0:
                    told = f"{moment:%d %b}  {tally.labels} labels known"
                    bar.update(task, completed=tally.flights - before, description=told)
                    self._bell.look()

            self._side_by_side(last, show)
        seconds = perf_counter() - start
        sent, others = self.flights.tally.flights - before, self.twin.tally.flights - twins
        self.seconds, self.sent = self.seconds + seconds, self.sent + sent + others
        what = f"stream {sent} flights in time order, and {others} of a twin in which nothing changes"
        self._console.print(f"[green]✓[/] [dim]{seconds:6.1f} s[/]  {what}", soft_wrap=True)

    def _side_by_side(self, last: pd.Timestamp | None, show: Callable[[pd.Timestamp, Tally], None]) -> None:
        stopped = threading.Event()

        def quietly(_moment: pd.Timestamp, _tally: Tally) -> None:
            if stopped.is_set():
                raise Failed("the other stream has stopped")

        with ThreadPoolExecutor(1) as beside:
            other = beside.submit(self.twin.by_hours, last, quietly)
            try:
                self.flights.by_hours(last, show)
                other.result()
            finally:
                stopped.set()

    def _ring(self, line: str) -> None:
        self._console.print(f"            {line}", style="yellow", markup=False, soft_wrap=True)


def wait_for_monitor(registry: Registry, day: pd.Timestamp, console: Console) -> None:
    """Wait until the monitor has looked at all days before one, in both deployments."""
    from modelyard.demo.watching import catch_up

    with step(console, "wait for the monitor, which looks at one day after the other") as said:
        done = catch_up(registry, (MODEL, TWIN), day.timestamp())
        said.append("it has looked at all days" if done else "it is not done yet; what follows is what it has so far")


def look_on(
    home: Home, registry: Registry, years: Years, versions: tuple[str, ...], console: Console
) -> tuple[Watched, Watched]:
    """Wait for the monitor, and ask it what it found in both; `versions` were in use, one after the other."""
    from modelyard.demo.watching import found

    wait_for_monitor(registry, years.flights["sched"].max().floor("D"), console)
    with step(console, "ask the monitor what it found, and write its reports"):
        return found(home, registry, MODEL, versions), found(home, registry, TWIN, versions[:1])
