"""One retraining: its stages in order, ending in a report whatever happens."""

from __future__ import annotations

import getpass
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from modelyard import data as versions_of_data
from modelyard.control import deployments, rollouts
from modelyard.domain.names import Ref
from modelyard.domain.parity import ParityReport
from modelyard.domain.run import Run
from modelyard.errors import Conflict, DeploymentNotFound, Failed, InvalidRequest, ModelyardError
from modelyard.home import Home
from modelyard.project import Project
from modelyard.project import read as read_project
from modelyard.records.query import RecordDatabase
from modelyard.registry import Registry, Version
from modelyard.registry.datasets import Datasets
from modelyard.retraining import material, watched
from modelyard.retraining.command import command_of
from modelyard.retraining.holding import Cut, Known, cut
from modelyard.retraining.page import write_page
from modelyard.retraining.plan import Plan, plan_of, policy_for
from modelyard.retraining.report import Data, Report, Trigger
from modelyard.retraining.rows import marks, moment
from modelyard.retraining.trial import Declined, Trial
from modelyard.retraining.turns import Turns
from modelyard.rollout.policy import Policy
from modelyard.runs.beginning import Within
from modelyard.runs.program import Done, train
from modelyard.vault.keeping import bring
from modelyard.verification import verify

_WORK = "work-"

DATA, DATASET = "MODELYARD_DATA", "MODELYARD_DATASET"
"""Variables of the training program: the folder of the new version of the data, and its name."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for; see `modelyard.retraining.retrain`."""

    deployment: str
    why: str = ""
    project: str | Path | None = None
    trigger: Trigger = "hand"
    alerts: tuple[int, ...] = ()
    by: str | None = None
    environ: Mapping[str, str] | None = None


def carry_out(home: str | Path | Home | None, asked: Asked, tell: Callable[[str], None]) -> Report:
    """Train again; see `modelyard.retraining.retrain`."""
    with Registry.open(Home.locate(home)) as registry:
        project = project_of(registry.home, asked)
        plan = plan_of(project)
        policy = policy_for(plan, project)  # what is written wrongly is said before anything is done
        champion = _in_use(registry, asked.deployment)
        _refuse_while_open(registry, asked.deployment)
        turns = Turns(registry.database)
        begun = turns.begin(_begun(asked, champion, plan))
        with turns.alive(begun.id):
            work = _Retraining(registry, turns, plan, policy, project, champion, begun, asked, tell)
            return work.carry_out()


def project_of(home: Home, asked: Asked) -> Project | None:
    """The project that says how: the one that is named, else the one that is watched, else the current folder.

    Raises:
        InvalidRequest: the folder that is named has no project file, or it cannot be read.
    """
    if asked.project is not None:
        found = read_project(asked.project)
        if found is None:
            raise InvalidRequest(f"{asked.project} has no modelyard.toml, which says how to train again")
        return found
    known = watched.watch_of(home, asked.deployment)
    return read_project(known.project if known is not None else Path.cwd())


def _begun(asked: Asked, champion: Version, plan: Plan) -> Report:
    return Report(
        deployment=asked.deployment,
        model=plan.model or champion.model,
        champion=champion.ref,
        trigger=asked.trigger,
        why=asked.why,
        by=_user() if asked.by is None else asked.by,
        alerts=asked.alerts,
        began=_now(),
    )


def _in_use(registry: Registry, deployment: str) -> Version:
    there = {decision.deployment: decision for decision in deployments.in_force(registry)}
    decision = there.get(deployment)
    if decision is None or decision.model is None:
        raise DeploymentNotFound(deployment, sorted(there))
    return registry.version(Ref(decision.model, version=decision.version))


def _refuse_while_open(registry: Registry, deployment: str) -> None:
    for rollout in rollouts.open_rollouts(registry):
        if rollout.deployment == deployment:
            raise Conflict(
                f"a rollout of {deployment!r} to {rollout.candidate} is open: a challenger would have to wait for its "
                f"end; `modelyard rollout show {deployment}` tells how far it is"
            )


@dataclass(slots=True)
class _Retraining:
    """What the stages share. `report` is kept after each."""

    registry: Registry
    turns: Turns
    plan: Plan
    policy: Policy | None
    project: Project | None
    champion: Version
    report: Report
    asked: Asked
    tell: Callable[[str], None]
    known: Known = field(init=False)

    def carry_out(self) -> Report:
        """All stages."""
        try:
            with self._folder() as folder:
                self._stages(folder)
        except Declined as declined:
            self._end("declined", str(declined))
        except (ModelyardError, OSError) as error:
            self._end("failed", f"{self.report.stage}: {error}")
        except (KeyboardInterrupt, SystemExit):
            self._end("stopped", f"it was stopped while it was {self.report.stage}")
            raise
        except BaseException as error:
            self._end("failed", f"it was ended while it was {self.report.stage} ({type(error).__name__})")
            raise
        return self.report

    def _stages(self, folder: Path) -> None:
        self._material(folder)
        done = self._trained(folder / "data")
        challenger = self._challenger(done)
        self._prove(challenger)
        self._at(f"comparing {challenger.ref} with {self.champion.ref}")
        trial = Trial(self.registry, self.report.deployment, self.plan, self.champion, challenger, self.known)
        with RecordDatabase(self.registry.home.records) as database:
            evaluation = trial.judged(database, self.report.data or Data(ref="", origin=""), folder / "data")
        self._note(evaluation=evaluation)
        if not evaluation.passed:
            raise Declined("; ".join(f"{gate.gate}: {gate.said}" for gate in evaluation.gates if not gate.passed))
        self._go_on(challenger)

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """Where the data lies; reads below the home's cache would not be seen. What killed ones left goes."""
        parent = watched.folder(self.registry.home)
        live = {f"{_WORK}{each.id}" for each in self.turns.listed(most=1000) if each.state == "running"}
        for left in parent.glob(f"{_WORK}*"):
            if left.name not in live:
                shutil.rmtree(left, ignore_errors=True)
        folder = parent / f"{_WORK}{self.report.id}"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    # data -------------------------------------------------------------------------------------------------------------

    def _material(self, folder: Path) -> None:
        self._at("gathering data")
        with RecordDatabase(self.registry.home.records) as database:
            there = marks(database, self.report.deployment)
            self.known = self._what_is_known()
            self._note(labelled=len(there))
            plan = self.plan
            share = 0.0 if isinstance(plan.evaluate, str) else plan.evaluate
            made = cut(there, self.known, plan.held_back, share, plan.window_seconds, plan.least)
            found = self._dataset(database, made)
        versions_of_data.checkout(found.ref, folder / "data", home=self.registry.home)
        if plan.time:
            latest = material.latest(folder / "data", plan.time) + np.timedelta64(1, "us")
            found = msgspec.structs.replace(found, until=moment(latest))
        self._note(data=found)

    def _dataset(self, database: RecordDatabase, made: Cut) -> Data:
        plan, name, home = self.plan, self.report.deployment, self.registry.home
        note = f"for retraining {self.report.id} of {name}"
        if plan.sources:
            if self.project is None:
                raise InvalidRequest("a snapshot is taken of a project's files; name it with --project")
            return material.from_snapshot(plan, name, self.project.folder, home, note)
        if plan.query:
            return material.from_query(plan, name, made, home, note)
        schema = self.registry.bundle(self.champion).manifest.schema
        return material.from_records(database, name, schema, made, plan, home, note)

    def _what_is_known(self) -> Known:
        """Of the data that the version in use was trained on."""
        made_here = (
            report.data.until
            for report in self.turns.listed(most=1000)
            if report.challenger == self.champion.ref and report.data is not None
        )
        return Known(self.champion.created_at, next(made_here, None))

    # training ---------------------------------------------------------------------------------------------------------

    def _trained(self, folder: Path) -> Done:
        self._at("training")
        words, place = command_of(self.registry, self.plan, self.project, self.champion)
        assert self.report.data is not None  # noqa: S101 - it was made before
        ref = self.report.data.ref
        words = tuple(word.replace("{data}", str(folder)).replace("{dataset}", ref) for word in words)
        limits = self.plan.limits
        environ = dict(os.environ if self.asked.environ is None else self.asked.environ)
        beside = str(Path(sys.executable).parent)  # ``python`` is the one that this runs on
        environ |= {DATA: str(folder), DATASET: ref, "PATH": os.pathsep.join([beside, environ.get("PATH", os.defpath)])}
        within = Within(place, environ, limits.seconds, limits.bytes, limits.nice, is_repeat=False)
        tags = {"retraining": str(self.report.id), "deployment": self.report.deployment, "trigger": self.report.trigger}
        self._note(command=words)
        with Path(os.devnull).open("wb") as nowhere:  # the run keeps what it prints
            streams: tuple[BinaryIO, BinaryIO] = (nowhere, nowhere)
            done = train(
                words,
                streams=streams,
                data=[ref],
                tags=tags,
                note=f"retraining {self.report.id} of {self.report.deployment}",
                home=self.registry.home,
                within=within,
            )
        self._note(run=done.run_id)
        return done

    def _challenger(self, done: Done) -> Version:
        run = done.record
        if run is None:
            raise Failed(f"the run {done.run_id} could not be stored, so that nothing is known of what it made")
        metrics = {name: metric.last for name, metric in run.metrics.items()}
        self._note(run_seconds=run.seconds, run_metrics=metrics)
        if run.outcome.state != "finished":
            said = run.outcome.error or f"exit code {run.outcome.exit_code}"
            raise Failed(f"the training program {run.outcome.state}: {said}; `modelyard runs show {run.id}` tells more")
        self._require_read(run)
        mine = [ref for ref in run.versions if Ref.parse(ref).model == self.report.model]
        if not mine:
            made = ", ".join(run.versions) or "nothing"
            raise Failed(f"the training program packed no version of {self.report.model!r}; it packed {made}")
        self._note(challenger=mine[-1])
        if mine[-1] == self.champion.ref:
            raise Declined(f"what was trained is {mine[-1]} once more, the version in use, bit for bit")
        return self.registry.version(mine[-1])

    def _require_read(self, run: Run) -> None:
        """See that the program read the new data, as far as that can be seen."""
        assert self.report.data is not None  # noqa: S101 - it was made before
        ref = self.report.data.ref
        if ref in run.data.versions or run.data.unseen or run.data.watched == "not watched":
            return
        raise Failed(
            f"the training program did not read {ref}, the new version of the data: its folder is {{data}} in the "
            f"command, the variable {DATA} for the program, and `run.data({ref.partition('@')[0]!r})` in it"
        )

    # proving ----------------------------------------------------------------------------------------------------------

    def _prove(self, challenger: Version) -> None:
        self._at(f"verifying {challenger.ref}")
        registry = self.registry
        datasets = Datasets(registry.home, registry.database)
        try:
            bring(registry, datasets, challenger)
        finally:
            datasets.close()
        folder = registry.folder(challenger.digest)
        report = verify(folder, challenger.ref, digest=challenger.digest, home=registry.home, progress=self.tell)
        registry.add_report(challenger, report)
        self._note(proof=_said_of(report))
        if not report.passed:
            raise Declined(f"{challenger.ref} does not answer as it did in training: {_said_of(report)}")

    # the end ----------------------------------------------------------------------------------------------------------

    def _go_on(self, challenger: Version) -> None:
        self._at("beginning a rollout")
        self.turns.save(self.report)  # somebody who took this one for lost may have begun another
        now = _in_use(self.registry, self.report.deployment)
        if now.ref != self.champion.ref:
            raise Declined(f"{now.ref} is in use by now, and {challenger.ref} was compared with {self.champion.ref}")
        strategy = self.plan.strategy
        if strategy == "none":
            return self._end("accepted", f"{challenger.ref} passed all gates; nothing is rolled out by itself")
        by = f"retraining {self.report.id}"
        try:
            rollouts.begin(self.registry, challenger, self.report.deployment, strategy, policy=self.policy, by=by)
        except Conflict as error:
            raise Declined(f"{challenger.ref} passed all gates, but {error}") from error
        self._note(rollout=strategy)
        return self._end("accepted", f"{challenger.ref} passed all gates; its rollout has begun as a {strategy}")

    def _at(self, stage: str) -> None:
        self.tell(stage)
        self._note(stage=stage)

    def _note(self, **facts: Any) -> None:
        self.report = msgspec.structs.replace(self.report, **facts)
        self.turns.save(self.report)

    def _end(self, state: str, reason: str) -> None:
        facts: Any = {"state": state, "reason": reason, "ended": _now()}
        self.report = msgspec.structs.replace(self.report, **facts)
        self.turns.save(self.report)
        write_page(self.registry.home, self.report)


def _said_of(report: ParityReport) -> str:
    if report.passed:
        return f"answers as in training, in {len(report.stages)} stages"
    return "; ".join(f"{stage.stage}: {stage.reason}" for stage in report.stages if not stage.passed)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _now() -> datetime:
    return datetime.now(UTC)
