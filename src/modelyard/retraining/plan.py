"""How a deployment's model is trained again: the table ``[retrain]`` of a project's file."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from modelyard.errors import InvalidRequest
from modelyard.project import Project, converted, seconds
from modelyard.rollout.policy import Policy
from modelyard.rollout.written import policy_of

Occasion: TypeAlias = Literal["alert", "schedule", "labels"]
"""What begins a retraining by itself."""

Strategy: TypeAlias = Literal["canary", "shadow", "ab", "blue-green", "none"]
"""How a challenger that passed goes on; with ``none`` it only waits, verified, for somebody to deploy it."""

_SIZES = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the training program may take, with all that it starts."""

    time: str | float = "2h"
    memory: str | int = ""
    """Such as ``"4GB"``; empty: as much as there is."""
    nice: int = 10
    """How far it stands back where others want the processor: 0 not at all, 19 as far as it can."""

    @property
    def seconds(self) -> float:
        """The time in seconds."""
        return seconds(self.time, "[retrain.limits] time")

    @property
    def bytes(self) -> int | None:
        """The memory in bytes; None: no limit.

        >>> Limits(memory="1.5GB").bytes, Limits().bytes
        (1500000000, None)

        Raises:
            InvalidRequest: that is no size.
        """
        if isinstance(self.memory, int) or not self.memory:
            return self.memory or None
        number, unit = self.memory.strip()[:-2], self.memory.strip()[-2:]
        if self.memory.strip()[-3:] in _SIZES:
            number, unit = self.memory.strip()[:-3], self.memory.strip()[-3:]
        try:
            return int(float(number) * _SIZES[unit])
        except (KeyError, ValueError):
            raise InvalidRequest(
                f"[retrain.limits] memory: {self.memory!r} is no size; write one such as 500MB or 4GB"
            ) from None


class Gate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a challenger has to show. Differences are in the metric's own unit, the worse the larger.

    The interval of the difference must lie below `margin`: with 0 the challenger has to be better, with 0.01 it may not
    be worse by more than that. With `slices` it is asked of every part of these columns that it is not shown to be
    worse by more than the margin.
    """

    metric: str = ""
    """Empty: the metric that the deployment is watched by."""
    margin: float = 0.0
    slices: bool = False


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to train again. Nothing has to be said: the command is that of the run that made the version in use.

    >>> Plan(command="python train.py --data '{data}'").words
    ('python', 'train.py', '--data', '{data}')
    """

    on: tuple[Occasion, ...] = ()
    """What begins it by itself; by hand it begins always."""
    command: str | tuple[str, ...] = ()
    """``{data}`` in it is the folder of the new version of the data, as is ``MODELYARD_DATA`` for the program."""
    model: str = ""
    """The model that the program packs; empty: the one in use."""
    dataset: str = ""
    """What versions of the data are called; empty: the deployment's name with ``-live``."""
    file: str = ""
    """The Parquet file in it; empty: the dataset's name with ``.parquet``."""
    window: str | float = ""
    """Records of so much event time are trained on, such as ``"60d"``; empty: all that have a label."""
    columns: dict[str, str] = {}
    """Other names for what stands beside the inputs: ``late = "label"``, also of ``event_time`` and others."""
    snapshot: str | tuple[str, ...] = ()
    """Files or folders of which a fresh snapshot is trained on, in place of records."""
    query: str = ""
    """A SELECT whose rows are trained on, in place of records; ``{until}`` in it is where the rows held back begin."""
    url_from: str = ""
    """The environment variable with the URL of the query's database."""
    time: str = ""
    """The column of snapshot or query that says when a row happened: what is later is new to the challenger."""
    key: tuple[str, ...] = ()
    """Columns that tell rows apart, in data and records alike: what was trained on is not judged on."""
    evaluate: float | str = 0.2
    """The newest labelled rows, kept from training: a share of them, or of so much event time, such as ``"14d"``."""
    least: int = 500
    """So many of them at least have to be there."""
    metric: str = ""
    positive: str = ""
    gates: tuple[Gate, ...] = (Gate(), Gate(slices=True, margin=0.02))
    slices: tuple[str, ...] = ()
    """Columns whose parts are compared; empty: those that the deployment is watched by, else all inputs."""
    certainty: float = 0.95
    """Of the interval of a gate; of those of slices all together."""
    limits: Limits = Limits()
    strategy: Strategy = "canary"
    rollout: dict[str, Any] = {}
    """Of a canary, what is to be otherwise than in the table ``[rollout]``."""
    alerts: tuple[str, ...] = ("performance", "estimate", "drift")
    """Alerts that begin a retraining: of these causes, or with parts of these kinds or watches. Missing or broken
    values do not: what is broken is to be repaired, not to be learned."""
    every: str | float = "7d"
    """How often it begins on schedule."""
    labels: int = 10_000
    """So many new labels begin one."""
    pause: str | float = "1h"
    """No two of them begin by themselves within so long."""
    again: str | float = "1d"
    """An alert that still goes on so long after begins another."""

    @property
    def words(self) -> tuple[str, ...]:
        """The command; empty where it is not said."""
        return tuple(shlex.split(self.command)) if isinstance(self.command, str) else self.command

    @property
    def sources(self) -> tuple[str, ...]:
        """What a snapshot is taken of."""
        return (self.snapshot,) if isinstance(self.snapshot, str) else self.snapshot

    @property
    def window_seconds(self) -> float | None:
        """How much event time is trained on; None: all."""
        return seconds(self.window, "[retrain] window") if self.window != "" else None

    @property
    def held_back(self) -> float | None:
        """Seconds of event time that are held back; None where it is a share of the rows."""
        return seconds(self.evaluate, "[retrain] evaluate") if isinstance(self.evaluate, str) else None

    def check(self) -> None:
        """See that it can be followed.

        Raises:
            InvalidRequest: it cannot, and what to write instead.
        """
        if sum(map(bool, (self.window != "", bool(self.sources), bool(self.query)))) > 1:
            raise InvalidRequest("[retrain]: window, snapshot and query are three ways of which one is taken")
        if self.query and not self.url_from:
            raise InvalidRequest("[retrain]: query needs url_from, the environment variable with the database's URL")
        if (self.sources or (self.query and "{until}" not in self.query)) and not (self.time or self.key):
            raise InvalidRequest(
                "[retrain]: nothing tells which records a snapshot or query holds, so a challenger could not be judged "
                "fairly: set `time` or `key`, or use {until} in the query"
            )
        if isinstance(self.evaluate, float) and not 0 < self.evaluate < 1:
            raise InvalidRequest(
                f"[retrain] evaluate = {self.evaluate:g}: write a share below 1, or a time such as 14d"
            )
        if not self.gates or all(gate.slices for gate in self.gates):
            raise InvalidRequest("[retrain]: one gate at least is about all rows together (slices = false)")
        if not 0.5 <= self.certainty < 1 or self.least < 2 or self.labels < 1:
            raise InvalidRequest(
                "[retrain]: certainty lies between 0.5 and 1, least and labels are whole numbers above 1"
            )
        if not 0 <= self.limits.nice <= 19:
            raise InvalidRequest("[retrain.limits] nice lies between 0 and 19")
        _ = self.words, self.window_seconds, self.held_back, self.limits.seconds, self.limits.bytes
        for name in ("every", "pause", "again"):
            seconds(getattr(self, name), f"[retrain] {name}")


def plan_of(project: Project | None) -> Plan:
    """The plan of a project; the usual one where it has none.

    Raises:
        InvalidRequest: its table holds what means nothing.
    """
    if project is None:
        return Plan()
    plan = converted(project.retrain, Plan, f"{project.file}: [retrain]")
    plan.check()
    return plan


def policy_for(plan: Plan, project: Project | None) -> Policy | None:
    """How a challenger's canary goes on; None where its rollout is no canary.

    >>> policy = policy_for(Plan(rollout={"steps": ["10%", "100%"]}), None)
    >>> [step.share for step in policy.steps]
    [0.1, 1.0]

    Raises:
        InvalidRequest: the tables of the project hold what means nothing.
    """
    if plan.strategy != "canary":
        if plan.rollout:
            raise InvalidRequest(f"[retrain.rollout] is about a canary, and strategy is {plan.strategy!r}")
        return None
    said = dict(project.rollout) if project is not None else {}
    return policy_of({**said, **plan.rollout}, f"{project.file} [rollout]" if project is not None else "[rollout]")


def resolved(sources: Sequence[str], folder: Path) -> list[str]:
    """Paths of the project as seen from anywhere.

    >>> resolved(["data/*.csv"], Path("/srv/churn"))
    ['/srv/churn/data/*.csv']
    """
    return [str(folder / Path(source).expanduser()) for source in sources]
