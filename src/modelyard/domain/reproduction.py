"""Reproduction: what it means that a version came out the same again, and the report that says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from modelyard.domain.parity import Mismatch

Verdict: TypeAlias = Literal["bit-equal", "equal within tolerance", "same decisions", "different", "failed"]
"""From best to worst. ``failed``: there is nothing to compare, since the program failed or packed nothing."""

ORDER: tuple[Verdict, ...] = ("bit-equal", "equal within tolerance", "same decisions", "different", "failed")

Kind: TypeAlias = Literal[
    "package", "python", "threads", "kernel", "processor", "setting", "data", "code", "command", "randomness", "time"
]
"""What kind of ingredient of a run something is."""


@dataclass(frozen=True, slots=True)
class Learned:
    """How what two estimators learned differs: their arrays and trees, not their files.

    `parts` are compared, `differing` names the first few that differ (`different` counts all), with the largest
    distance of those numbers that can be compared. `digest` is that of the original's learned state.
    """

    digest: str
    again: str
    parts: int = 0
    different: int = 0
    differing: tuple[str, ...] = ()
    largest_abs: float = 0.0
    largest_ulp: int = 0

    @property
    def equal(self) -> bool:
        """Whether all that was learned is the same, bit for bit."""
        return self.digest == self.again


@dataclass(frozen=True, slots=True)
class Answered:
    """How the answers to the original's golden rows differ; the numbers mean what they mean in a `StageReport`.

    `decisions` counts the labels among the answers, `flips` those that are others now, of which `excused` were within
    the tolerance of a tie. `mismatched` answers are further away than the tolerance. `problem` says why answers could
    not be compared. `means` says how they were had.
    """

    rows: int = 0
    decisions: int = 0
    largest_abs: float = 0.0
    largest_rel: float = 0.0
    largest_ulp: int = 0
    flips: int = 0
    excused: int = 0
    mismatched: int = 0
    mismatches: tuple[Mismatch, ...] = ()
    problem: str = ""
    means: str = ""

    @property
    def bit_equal(self) -> bool:
        """Whether every answer is the same, bit for bit."""
        return not self.problem and not (self.largest_ulp or self.flips or self.mismatched)


@dataclass(frozen=True, slots=True)
class MetricPair:
    """The last value of a metric in both runs; None where it was not logged."""

    name: str
    before: float | None
    after: float | None

    @property
    def equal(self) -> bool:
        """Whether both are the same number, or both are none."""
        return self.before == self.after or (self.before != self.before and self.after != self.after)


@dataclass(frozen=True, slots=True)
class Ingredient:
    """What two runs have each in their own way: `before` in the original, `after` now, and how it is known."""

    kind: Kind
    name: str
    before: str = ""
    after: str = ""
    evidence: str = ""

    def __str__(self) -> str:
        """In one line.

        >>> str(Ingredient("package", "scikit-learn", "1.5.2", "1.6.0"))
        'package scikit-learn: 1.5.2, now 1.6.0'
        """
        what = self.name if self.name.startswith(self.kind) else f"{self.kind} {self.name}".strip()
        change = f": {self.before or 'none'}, now {self.after or 'none'}" if self.before != self.after else ""
        return f"{what}{change}{f' ({self.evidence})' if self.evidence else ''}"


@dataclass(frozen=True, slots=True)
class Trial:
    """One more run of an explanation: what was done to it, and how its result compares.

    `verdict` is against the original; `moved` tells whether the result is another than that of the reproduction that is
    to be explained.
    """

    what: str
    ingredient: Ingredient | None
    verdict: Verdict
    moved: bool
    largest_abs: float = 0.0
    flips: int = 0
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `--explain` found: the `causes`, each with what was seen, in words; and the trials it is known from."""

    causes: tuple[Ingredient, ...] = ()
    said: str = ""
    trials: tuple[Trial, ...] = ()


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A version that was trained again from its record, and how what came of it compares.

    `what_if` lists what was exchanged on request: such a run says nothing of whether the version can be reproduced.
    `against` names another version that the result was compared with instead of the version itself. `differences` are
    the ingredients in which both runs differ: candidates, not causes. `missing` could not be given back to the program.
    `facts` are texts on where it ran.
    """

    ref: str
    digest: str
    run: str
    verdict: Verdict
    reason: str = ""
    learned: Learned | None = None
    answers: Answered | None = None
    metrics: tuple[MetricPair, ...] = ()
    differences: tuple[Ingredient, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    explanation: Explanation | None = None
    what_if: tuple[str, ...] = ()
    against: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether it tells if the version itself can be reproduced."""
        return not self.what_if and not self.against


def judged(learned: Learned, answers: Answered) -> tuple[Verdict, str]:
    """The verdict on two results, and why it is no better in one line.

    >>> state = Learned("blake3:aa", "blake3:aa")
    >>> judged(state, Answered(rows=3))
    ('bit-equal', '')
    >>> judged(state, Answered(rows=3, decisions=3, largest_abs=0.1, largest_ulp=9, mismatched=2))[0]
    'same decisions'
    """
    if answers.problem:
        return "different", answers.problem
    if learned.equal and answers.bit_equal:
        return "bit-equal", ""
    if not answers.mismatched and answers.flips == answers.excused:
        return "equal within tolerance", _distance(learned, answers)
    if answers.decisions and answers.flips == answers.excused:
        return "same decisions", f"{answers.mismatched} of {answers.rows} answers are further away than the tolerance"
    flipped = f"{answers.flips} labels flipped" if answers.decisions else f"{answers.mismatched} answers differ"
    return "different", f"{flipped} of {answers.rows} golden rows"


def _distance(learned: Learned, answers: Answered) -> str:
    if answers.bit_equal:
        return f"the answers are bit-equal; of what was learned {learned.different} of {learned.parts} parts differ"
    return f"answers differ by up to {answers.largest_abs:.1e} ({answers.largest_ulp} ULP)"


def at_least(verdict: Verdict, wanted: Verdict) -> bool:
    """Whether a verdict is as good as `wanted` or better.

    >>> at_least("bit-equal", "same decisions"), at_least("different", "same decisions")
    (True, False)
    """
    return ORDER.index(verdict) <= ORDER.index(wanted)
