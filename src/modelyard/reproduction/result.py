"""What came of a repeated run, compared with a version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelyard.bundle.layout import Bundle
from modelyard.domain.names import Ref
from modelyard.domain.reproduction import Answered, Learned, Verdict, judged
from modelyard.domain.run import Run
from modelyard.registry import Version
from modelyard.reproduction.answering import compare_answers
from modelyard.reproduction.learned import compared, state_of
from modelyard.reproduction.rerun import Again


@dataclass(frozen=True, slots=True)
class Target:
    """The version to be reproduced, and the run that made it. `place` is its place among what the run packed."""

    version: Version
    bundle: Bundle
    run: Run
    place: str


@dataclass(frozen=True, slots=True)
class Result:
    """A verdict with what it is known from. `bundle` is the version that was made again, where one was."""

    verdict: Verdict
    reason: str
    bundle: Bundle | None = None
    learned: Learned | None = None
    answers: Answered | None = None


def result_of(original: Bundle, again: Again, place: str) -> Result:
    """Compare the version at that place among those that `again` packed with `original`."""
    made = again.bundles.get(place)
    if again.failure or made is None:
        there = ", ".join(again.bundles) or "nothing"
        return Result("failed", again.failure or f"the program packed {there}, but no {place}")
    return between(original, made, again.python)


def between(original: Bundle, made: Bundle, python: Path) -> Result:
    """Compare two versions; `python` is the interpreter of the environment of `made`."""
    learned = compared(state_of(original), state_of(made))
    answers = compare_answers(original, made, python)
    verdict, reason = judged(learned, answers)
    return Result(verdict, reason, made, learned, answers)


def place_in(run: Run, version: Version) -> str:
    """Which of the versions of its model that a run packed this is, written ``churn@1`` for the first.

    The numbers themselves are those of the registry, and others wherever the run is repeated.
    """
    same = [ref for ref in run.versions if Ref.parse(ref).model == version.model]
    return f"{version.model}@{same.index(version.ref) + 1 if version.ref in same else 1}"
