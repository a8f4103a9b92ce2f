"""What was measured, beside the goals, as tables and as JSON."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Measured:
    """One server under one load; `failed` counts answers that were wrong, missing, or neither success nor a refusal."""

    scenario: str
    model: str
    server: str
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    failed: int = 0


@dataclass(frozen=True)
class Goal:
    """One goal and what it came to.

    `figure` is ours in `unit`, `beside` what it is compared with; without that, the figure itself is held against
    `limit`. `explains` says where the time goes when it is not met.
    """

    scenario: str
    what: str
    figure: float
    unit: str
    limit: float
    beside: float | None = None
    ratio: float | None = None
    at_least: bool = True
    explains: str = ""

    @property
    def reached(self) -> float:
        """What is held against the limit."""
        if self.ratio is not None:
            return self.ratio
        return self.figure if self.beside is None else divided(self.figure, self.beside)

    @property
    def met(self) -> bool:
        """Whether the goal is reached; not, when nothing could be measured.

        >>> Goal("single", "times", 30.0, "requests/s", 25.0, beside=1.0).met
        True
        >>> Goal("single", "times", 30.0, "requests/s", 25.0, beside=float("nan")).met
        False
        """
        return self.reached >= self.limit if self.at_least else self.reached <= self.limit


def divided(one: float, other: float) -> float:
    """A ratio; NaN where there is none."""
    return one / other if other else math.nan


@dataclass
class Report:
    """What a run found. `missing` says, by name, why something was not measured; `notes` what else to know."""

    measured: list[Measured] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> str:
        """The whole report as JSON."""
        goals = [{**asdict(goal), "ratio": goal.reached, "met": goal.met} for goal in self.goals]
        document = {
            "machine": machine(),
            "measured": [asdict(one) for one in self.measured],
            "goals": goals,
            "missing": self.missing,
            "notes": self.notes,
        }
        return json.dumps(document, indent=2)

    def as_text(self) -> str:
        """Tables for people."""
        lines = [machine()]
        if self.measured:
            lines += ["", *measured_table(self.measured)]
        if self.goals:
            lines += ["", *goals_table(self.goals), ""]
        missed: dict[str, list[str]] = {}
        for goal in self.goals:
            if not goal.met and goal.explains:
                missed.setdefault(goal.explains, []).append(f"{goal.scenario}, {goal.what}")
        lines += [f"{'; '.join(goals)}: {explains}" for explains, goals in missed.items()]
        lines += self.notes
        lines += [f"not measured: {name}: {reason}" for name, reason in self.missing.items()]
        return "\n".join(lines)


def machine() -> str:
    """What it ran on, and how busy that was."""
    cores, load = len(os.sched_getaffinity(0)), ", ".join(f"{one:.1f}" for one in os.getloadavg())
    return f"{cores} cores, {platform.machine()}, Python {platform.python_version()}, load {load}"


def measured_table(measured: Sequence[Measured]) -> list[str]:
    """Every server under every load."""
    rows = [["scenario", "model", "server", "requests/s", "p50 ms", "p99 ms", "cpu us", "failed"]]
    for one in measured:
        figures = [f"{one.per_second:,.0f}", f"{one.p50_ms:.2f}", f"{one.p99_ms:.2f}", f"{one.cpu_us:,.0f}"]
        rows.append([one.scenario, one.model, one.server, *figures, str(one.failed or "")])
    return aligned(rows, texts=3)


def goals_table(goals: Sequence[Goal]) -> list[str]:
    """Every goal: what we have, what it is compared with, the ratio, and whether it is met."""
    rows = [["scenario", "what", "figure", "beside", "ratio", "goal", "met"]]
    for goal in goals:
        beside = "" if goal.beside is None else short(goal.beside)
        ratio = "" if goal.beside is None and goal.ratio is None else f"{goal.reached:.3g}"
        limit = f"{'≥' if goal.at_least else '≤'} {goal.limit:g}"
        rows.append(
            [
                goal.scenario,
                goal.what,
                f"{short(goal.figure)} {goal.unit}",
                beside,
                ratio,
                limit,
                "yes" if goal.met else "NO",
            ]
        )
    return aligned(rows, texts=2)


def short(number: float) -> str:
    """A number with as many digits as matter.

    >>> short(12345.6), short(1.23456)
    ('12,346', '1.23')
    """
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def aligned(rows: Sequence[Sequence[str]], texts: int) -> list[str]:
    """Rows as lines with columns of equal width; the first `texts` columns begin, the others end, at the same place.

    >>> aligned([["a", "n"], ["bcd", "12"]], texts=1)
    ['a     n', 'bcd  12']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at < texts else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
