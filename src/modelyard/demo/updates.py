"""The model is updated: trained again when it has become worse, spoiled by a mistake, and trained on too little.

All of it goes through the commands that a user has, in a project with a ``modelyard.toml``; what they say is told.
Which version wins, when, and why, is decided by the product on the flights as they come.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console

from modelyard.demo.telling import MODEL, step
from modelyard.errors import Failed

if TYPE_CHECKING:
    import pandas as pd

    from modelyard.demo.stream import Traffic
    from modelyard.home import Home
    from modelyard.registry import Registry

PROJECT_FILE = "modelyard.toml"

POLICY = """\
[rollout]                     # how a version takes over; minutes and hours where flights are not faster than life
steps = [{ share = "shadow", least = "20s" }, "10%", "50%", "100%"]
least = "5s"
most = "5m"
undecided = "rollback"
"""

RETRAIN = """\
[retrain]                     # how a challenger is trained, and on which flights it is compared with the version in use
command = ["python", "train.py", "--data", "{data}/flights-live.parquet"]
dataset = "flights-live"
columns = { late = "label", sched = "event_time", flight_id = "prediction_id" }
evaluate = "14d"
metric = "brier"
"""

SHORT = 'window = "14d"                # only the last days before those: what is usual now is all that counts\n'

_ROLLOUT_DAYS = 75
"""Flights of so many days at most are sent while a rollout goes on."""

_METRICS = ("auc", "brier", "accuracy")


@dataclass(frozen=True, slots=True)
class Retraining:
    """A challenger and what became of it: metrics are of the version in use and of the challenger."""

    began: str
    why: str
    state: str
    reason: str
    champion: str
    challenger: str
    trained_on: str
    judged_on: int
    metrics: dict[str, tuple[float | None, float | None]]
    report: str


@dataclass(frozen=True, slots=True)
class Compared:
    """One metric of a rollout: calls or rows that were compared, both rates, where the difference lies, the verdict."""

    metric: str
    rows: int
    baseline: float | None
    candidate: float | None
    difference: tuple[float | None, float | None]
    verdict: str


@dataclass(frozen=True, slots=True)
class RolledOut:
    """How a candidate got on: `steps` are decisions in their order, `flights` were sent meanwhile."""

    candidate: str
    before: str
    state: str
    reason: str
    steps: tuple[str, ...]
    first_day: str
    last_day: str
    flights: int
    failed: int
    seconds: float
    metrics: tuple[Compared, ...]


@dataclass(frozen=True, slots=True)
class Updates:
    """The three updates of the story; a rollout is None where the challenger was declined."""

    retrained: Retraining
    rolled_out: RolledOut | None
    harmful: RolledOut
    short: Retraining
    short_rolled_out: RolledOut | None


class Yard:
    """The project of the demo, and the commands that are given in it."""

    def __init__(self, home: Home, project: Path) -> None:
        self.home, self.project = home, project

    def plan(self, retrain: str = RETRAIN) -> None:
        """Write the project's file."""
        (self.project / PROJECT_FILE).write_text(f"{POLICY}\n{retrain}", "utf-8")

    def say(self, *words: str, fine: tuple[int, ...] = (0,)) -> Any:
        """Run ``modelyard`` with these words in the project, and read what it says.

        Raises:
            Failed: its exit status is none of those that are `fine`.
        """
        command = [sys.executable, "-P", "-m", "modelyard.cli.app", *words]
        done = subprocess.run(
            command, cwd=self.project, env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode not in fine:
            said = (done.stderr.strip() or done.stdout.strip())[-500:]
            raise Failed(f"`modelyard {' '.join(words)}` failed: {said}")
        return msgspec.json.decode(done.stdout)

    @property
    def _environment(self) -> dict[str, str]:
        # The project is nobody's repository, wherever the demo is run.
        return os.environ | {"MODELYARD_HOME": str(self.home.path), "GIT_CEILING_DIRECTORIES": str(self.home.path)}


def retrain(yard: Yard, why: str, day: pd.Timestamp, console: Console) -> Retraining:
    """Train a challenger as the project's file says, and tell what came of it.

    Raises:
        Failed: there is no challenger, or it could not be judged.
    """
    with step(console, f"{day:%d %b}: train again, verify, compare with the version in use: {why}") as said:
        found = yard.say("retrain", MODEL, "--why", why, "--json", fine=(0, 1))
        told = retraining_of(found, yard.home, f"{day:%Y-%m-%d}")
        said.append(f"{told.challenger} is {told.state}: {told.reason}")
    return told


def retraining_of(found: Any, home: Home, began: str) -> Retraining:
    """A retraining's report as the story needs it."""
    evaluation = found["evaluation"] or {"rows": 0, "whole": []}
    return Retraining(
        began=began,
        why=found["why"],
        state=found["state"],
        reason=found["reason"],
        champion=found["champion"],
        challenger=found["challenger"],
        trained_on=(found["data"] or {}).get("origin", ""),
        judged_on=evaluation["rows"],
        metrics={
            each["metric"]: (each["champion"]["value"], each["challenger"]["value"])
            for each in evaluation["whole"]
            if each["metric"] in _METRICS
        },
        report=str(home.path / "retraining" / f"{found['id']}.html"),
    )


def spoiled(yard: Yard, dataset: str, console: Console) -> str:
    """Train a version on the data of the one in use, with labels that mean the contrary; packed as any other.

    Raises:
        Failed: the training program does.
    """
    from modelyard import data

    folder = yard.project / "punctual"
    data.checkout(dataset, folder, home=yard.home)
    with step(console, "a mistake: train on a source whose 1 means on time, as if it meant late") as said:
        program = [sys.executable, "train.py", "--data", str(next(folder.glob("*.parquet"))), "--punctual"]
        run = yard.say("train", "--json", "--", *program)["run"]
        said.append(
            f"{run['versions'][0]}, AUC {run['metrics']['auc']['last']:.3f} on its last week: nothing to be seen"
        )
    return str(run["versions"][0])


def deploy_by_steps(yard: Yard, ref: str) -> None:
    """Begin a rollout as the project's file says.

    Raises:
        Failed: it is refused.
    """
    yard.say("deploy", ref, "--to", MODEL, "--strategy", "canary", "--json")


def roll_out(yard: Yard, registry: Registry, traffic: Traffic, console: Console) -> RolledOut:
    """Send flights one by one until the open rollout has come to its end by itself, and tell its way.

    Raises:
        Failed: flights of months are sent, and it is still open.
    """
    import pandas as pd

    days: list[pd.Timestamp] = []
    before, start = traffic.tally.flights, perf_counter()
    failed = traffic.tally.failed
    with step(console, "flights one by one, until the rollout ends by itself") as said:
        last = None if (first := traffic.moment) is None else first + pd.Timedelta(days=_ROLLOUT_DAYS)
        seen: list[float] = []
        traffic.by_flights(last, lambda moment: _goes_on(registry, moment, days, seen, console))
        found = yard.say("rollout", "show", MODEL, "--json")
        told = rolled_out_of(
            found,
            days=(f"{days[0]:%Y-%m-%d}", f"{days[-1]:%Y-%m-%d}") if days else ("", ""),
            flights=(traffic.tally.flights - before, traffic.tally.failed - failed),
            seconds=perf_counter() - start,
        )
        said.append(f"{told.candidate} is {told.state}: {told.reason}")
    if told.state not in ("promoted", "rolled back"):
        raise Failed(
            f"the rollout of {told.candidate} is still {told.state} after {told.flights} flights: {told.reason}"
        )
    return told


def _goes_on(
    registry: Registry, moment: pd.Timestamp, days: list[pd.Timestamp], seen: list[float], console: Console
) -> bool:
    """Whether the rollout is still open; tells of each share as the candidate gets it."""
    from modelyard.control.rollouts import open_rollouts

    days.append(moment)
    mine = next((each for each in open_rollouts(registry) if each.deployment == MODEL), None)
    if mine is not None and (not seen or mine.share != seen[-1]):
        seen.append(mine.share)
        gets = "is a shadow, whose answers nobody gets" if not mine.share else f"answers {mine.share:.0%} of the calls"
        console.print(f"            {moment:%d %b}: {mine.candidate} {gets}", style="cyan", soft_wrap=True)
    return mine is not None


def rolled_out_of(found: Any, days: tuple[str, str], flights: tuple[int, int], seconds: float) -> RolledOut:
    """What ``modelyard rollout show`` says, as the story needs it; `flights` that were sent, and that failed."""
    rollout, progress = found["rollout"], found["progress"]
    metrics = [] if progress is None else progress["metrics"]
    return RolledOut(
        candidate=rollout["candidate"],
        before=rollout["before"],
        state=rollout["state"],
        reason=_reason(rollout["changes"]),
        steps=tuple(_change(each, rollout["changes"][0]) for each in rollout["changes"]),
        first_day=days[0],
        last_day=days[1],
        flights=flights[0],
        failed=flights[1],
        seconds=seconds,
        metrics=tuple(
            Compared(
                each["metric"],
                round(each["baseline"] + each["candidate"]),
                each["baseline_rate"],
                each["candidate_rate"],
                (each["low"], each["high"]),
                each["verdict"],
            )
            for each in metrics
        ),
    )


def _reason(changes: list[Any]) -> str:
    """Why it ended: what was said last, before the data plane was through with it."""
    return str(next((each["reason"] for each in reversed(changes) if each["action"] in ("promote", "rollback")), ""))


def _change(change: Any, first: Any) -> str:
    """A decision, and how long after the beginning."""
    began, at = (datetime.fromisoformat(each["at"]) for each in (first, change))
    to = f" to {change['share']:.0%}" if change["action"] == "advance" else ""
    why = f": {change['reason']}" if change["reason"] else ""
    return f"{(at - began).total_seconds():.1f} s  {change['action']}{to}{why}"
