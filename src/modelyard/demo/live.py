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
    from modelyard.demo.stream import Tally
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


def stream(registry: Registry, years: Years, url: str, console: Console) -> tuple[Tally, float]:
    """Send both years side by side and tell alerts as they come; what happened to both, and the seconds it took."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from modelyard.demo.watching import Bell

    def ring(line: str) -> None:
        console.print(f"            {line}", style="yellow", markup=False, soft_wrap=True)

    bell = Bell(registry, (MODEL, TWIN), ring)
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    start = perf_counter()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("streaming", total=len(years.flights))

        def show(moment: pd.Timestamp, tally: Tally) -> None:
            if tally.requests % _CALLS_A_LOOK == 0:
                told = f"{moment:%d %b}  {tally.labels} labels known"
                bar.update(task, completed=tally.flights, description=told)
                bell.look()

        tally, other = _side_by_side(years, url, show)
    seconds = perf_counter() - start
    what = f"stream {tally.flights} flights in time order, and {other.flights} of a twin in which nothing changes"
    console.print(f"[green]✓[/] [dim]{seconds:6.1f} s[/]  {what}", soft_wrap=True)
    return tally.with_other(other), seconds


def _side_by_side(years: Years, url: str, show: Callable[[pd.Timestamp, Tally], None]) -> tuple[Tally, Tally]:
    from modelyard.demo.stream import play

    stopped = threading.Event()

    def quietly(_moment: pd.Timestamp, _tally: Tally) -> None:
        if stopped.is_set():
            raise Failed("the other stream has stopped")

    with ThreadPoolExecutor(1) as beside:
        other = beside.submit(play, years.twin, url, TWIN, quietly)
        try:
            return play(years.flights, url, MODEL, show), other.result()
        finally:
            stopped.set()


def look_on(home: Home, registry: Registry, years: Years, console: Console) -> tuple[Watched, Watched]:
    """Wait for the monitor, and ask it what it found in both."""
    from modelyard.demo.watching import catch_up, found

    last_day = years.flights["sched"].max().floor("D").timestamp()
    with step(console, "wait for the monitor, which looks at one day after the other") as said:
        done = catch_up(registry, (MODEL, TWIN), last_day)
        said.append("it has looked at all days" if done else "it is not done yet; what follows is what it has so far")
    with step(console, "ask the monitor what it found, and write its reports"):
        return found(home, registry, MODEL), found(home, registry, TWIN)
