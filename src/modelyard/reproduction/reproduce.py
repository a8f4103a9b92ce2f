"""From a version to a verdict: repeat the run that made it, compare, and where asked find out what moved the result."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from modelyard.bundle.layout import Bundle
from modelyard.domain.environment import Environment
from modelyard.domain.reproduction import Explanation, Reproduction
from modelyard.domain.run import Machine, Run
from modelyard.errors import Failed, NameTaken, PolicyDenied
from modelyard.home import Home
from modelyard.registry import Registry, Version
from modelyard.registry.reproductions import Reproductions
from modelyard.reproduction import causes
from modelyard.reproduction.explain import Explainer, OnTrial
from modelyard.reproduction.recipe import Recipe, WhatIf, recipe_of, with_changes
from modelyard.reproduction.rerun import Again, Kitchen, Say
from modelyard.reproduction.result import Result, Target, place_in, result_of
from modelyard.runs import machine
from modelyard.runs.yard import Yard, opened
from modelyard.vault.keeping import bring


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for beside the version itself.

    `what_if` exchanges ingredients; `against` names another version to compare with; `explain` finds what moved the
    result; `seconds` is how long one run may take; `work` is a folder to keep all that is made on the way in. With
    `trusted`, programs of runs that came from another home may run here.
    """

    what_if: WhatIf = field(default_factory=WhatIf)
    against: str | None = None
    explain: bool = False
    seconds: float | None = None
    work: Path | None = None
    trusted: bool = False


def reproduce(
    which: str,
    asked: Asked = Asked(),
    *,
    home: Home | Path | str | None = None,
    say: Say | None = None,
    on_trial: OnTrial | None = None,
) -> Reproduction:
    """Train a version again from its record and compare what comes of it; the verdict is kept with the version.

    Args:
        which: A version, or a run that packed one (the last, if it packed several).
        asked: What is asked for besides.
        home: Where the registry is; see `Home.locate`.
        say: Is told what is being done.
        on_trial: Gets each trial of an explanation when it is over.

    Raises:
        ModelNotFound, VersionNotFound, AliasNotFound, RunNotFound: there is no such version or run.
        Failed: the version was not packed within a recorded run, or code or environment cannot be had.
        InvalidRequest: a package to exchange is not in the environment, or the command cannot be run again.
        DataDamaged: data that the run read is not what was stored.
        PolicyDenied: the run came from another home, and its program is not trusted.
    """
    started = time.perf_counter()
    place = Home.locate(home).create()
    with opened(place) as yard, Registry.open(place) as registry, _work_folder(place, asked.work) as work:
        kitchen = Kitchen(
            yard, registry, work, asked.seconds, say or (lambda words: None), keeps=asked.work is not None
        )
        known = Reproductions(registry.database)
        task = _Task(kitchen, _target(registry, yard, which), asked)
        bring(registry, yard.datasets, task.target.version)
        other = None if asked.against is None else _target(registry, yard, asked.against)
        for target in (task.target, other):
            if target is not None and not asked.trusted:
                _require_own(target.run, known.origin_of(target.run.id))
        found = task.carry_out(other, on_trial or (lambda trial: None))
        found = replace(found, seconds=time.perf_counter() - started)
        known.add(task.target.version, found)
        return found


def _target(registry: Registry, yard: Yard, which: str) -> Target:
    version, run = _version_of(registry, yard, which)
    return Target(version, registry.bundle(version), run, place_in(run, version))


def _require_own(run: Run, origin: str | None) -> None:
    if origin is not None:
        raise PolicyDenied(
            f"run {run.id} came here from {origin}, and to reproduce it is to run its program on this machine: "
            f"{' '.join(run.command)}; nothing of it was run. If you trust where it came from, say --trust-code "
            "(trust_code=True in Python)"
        )


def _version_of(registry: Registry, yard: Yard, which: str) -> tuple[Version, Run]:
    known = {model.name for model in registry.models()}
    if "@" in which or which in known:
        version = registry.version(which)
        made_by = [run for run in yard.runs.that_made(version.model, version.number) if run.outcome.state != "running"]
        if not made_by:
            raise Failed(
                f"{version.ref} was not packed within a recorded run, so that it is not known how it was made: "
                "train with modelyard train -- python train.py, or in my.run, and pack there"
            )
        return version, made_by[0]
    run = yard.runs.run(which)
    if not run.versions:
        raise Failed(f"run {run.id} packed no version: there is nothing that a reproduction could be compared with")
    return registry.version(run.versions[-1]), run


@dataclass(frozen=True, slots=True)
class _Task:
    """One reproduction."""

    kitchen: Kitchen
    target: Target
    asked: Asked

    def carry_out(self, other: Target | None, on_trial: OnTrial) -> Reproduction:
        here = machine.this_machine()
        then = _recipe(self.target if other is None else other, here)
        now = with_changes(_recipe(self.target, here), self.asked.what_if)
        original = self.target if other is None else other
        again = self.kitchen.cook(now, "run")
        self.kitchen.say("comparing")
        result = result_of(original.bundle, again, self.target.place)
        explanation = None
        if self.asked.explain and result.bundle is not None and result.verdict != "bit-equal":
            explanation = self._explained(original.bundle, result.bundle, then, now, again, on_trial)
        return self._report(original, again, result, explanation, here)

    def _explained(
        self, original: Bundle, first: Bundle, then: Recipe, now: Recipe, again: Again, on_trial: OnTrial
    ) -> Explanation:
        place = self.target.place
        return Explainer(self.kitchen, original, place, then, now, again, first, on_trial).explain()

    def _report(
        self, original: Target, again: Again, result: Result, explanation: Explanation | None, here: Machine
    ) -> Reproduction:
        version = self.target.version
        return Reproduction(
            ref=version.ref,
            digest=version.digest,
            run=self.target.run.id,
            verdict=result.verdict,
            reason=result.reason,
            learned=result.learned,
            answers=result.answers,
            metrics=causes.metric_pairs(original.run, again.run) if result.bundle is not None else (),
            differences=causes.differences(original.run, again.run),
            missing=again.restored.missing,
            notes=(*again.restored.notes, *again.notes),
            explanation=explanation,
            what_if=self.asked.what_if.said(),
            against=original.version.ref if original is not self.target else "",
            facts=_facts(here, again.run),
        )


def _recipe(target: Target, here: Machine) -> Recipe:
    """How to repeat the run of a version. Of a run that did not say its environment, the version's own is taken."""
    environment: Environment = target.run.environment or target.bundle.manifest.environment
    return recipe_of(target.run, environment, here)


def _facts(here: Machine, run: Run) -> dict[str, str]:
    environment = run.environment
    facts = {"host": here.host, "processor": here.processor, "cores": str(here.cores), "platform": here.platform}
    if environment is not None:
        facts |= {"python": environment.python, "blas": environment.blas or "none"}
        facts["threads"] = ", ".join(f"{pool} {size}" for pool, size in sorted(environment.threads.items()))
    return facts


@contextmanager
def _work_folder(home: Home, chosen: Path | None) -> Iterator[Path]:
    """A new folder for all that is made on the way, gone afterwards unless the user chose it.

    What killed reproductions left is swept away: nobody holds a lock on it.
    """
    if chosen is not None:
        if chosen.exists() and any(chosen.iterdir()):
            raise NameTaken(f"{chosen} is there and not empty; name a new or empty folder")
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen.absolute()
        return
    parent = home.cache / "reproductions"
    parent.mkdir(exist_ok=True)
    for left in parent.iterdir():
        with suppress(OSError), _locked(left, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=parent))
    with _locked(folder, fcntl.LOCK_SH):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)
