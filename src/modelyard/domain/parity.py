"""Parity: what it means that answers are the same, and the report that says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Stage: TypeAlias = Literal["integrity", "environment", "in process", "rebuilt", "http single", "http batch", "bulk"]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One answer that differs: where, what was expected, what came."""

    row: int
    origin: str
    output: str
    expected: str
    got: str


@dataclass(frozen=True, slots=True)
class StageReport:
    """One replay of the golden set (or one other check) and how it ended.

    `largest_abs`, `largest_rel` and `largest_ulp` are taken over all finite numeric answers; `flips` counts labels that
    differ, `excused` those of them whose native margin is inside the tolerance. `refused` counts
    rows that had to be refused and were. `mismatches` holds the first few; `mismatched` counts all.
    """

    stage: Stage
    passed: bool
    rows: int = 0
    largest_abs: float = 0.0
    largest_rel: float = 0.0
    largest_ulp: int = 0
    flips: int = 0
    excused: int = 0
    refused: int = 0
    mismatched: int = 0
    mismatches: tuple[Mismatch, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ParityReport:
    """All stages of one verification of one version, with the facts of where it ran.

    `facts` are texts such as python, platform, cpu, threads, blas, onnxruntime. `overrides` lists packages that were
    exchanged on request (a what-if run): such a report never counts as proof.
    """

    ref: str
    digest: str
    runtime: str
    passed: bool
    stages: tuple[StageReport, ...]
    facts: dict[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()

    @property
    def proves(self) -> bool:
        """Whether this report lets the version be deployed."""
        return self.passed and not self.overrides
