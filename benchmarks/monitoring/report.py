"""Tables of results as text and as JSON, with the goals that they are held against."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.serving.report import Goal, goals_table, machine


@dataclass(frozen=True)
class Section:
    """A table: its title and its rows, all of one dataclass."""

    title: str
    rows: Sequence[Any]

    def as_text(self) -> str:
        """Title, names of the columns, rows.

        >>> @dataclass
        ... class Row:
        ...     name: str
        ...     seconds: float
        >>> print(Section("Speed", [Row("ours", 0.25)]).as_text())
        Speed
        name  seconds
        ours    0.250
        """
        if not self.rows:
            return f"{self.title}\n(nothing was measured)"
        names = [each.name for each in dataclasses.fields(self.rows[0])]
        lines = [names, *[[_cell(getattr(row, name)) for name in names] for row in self.rows]]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = ["  ".join(map(str.rjust, line, widths)).rstrip() for line in lines]
        return "\n".join([self.title, *shown])


@dataclass
class Report:
    """What a run found. `missing` says, by name, why something was not measured; `seconds` how long each table took."""

    sections: dict[str, list[Section]] = field(default_factory=dict)
    goals: list[Goal] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def as_text(self) -> str:
        """The goals and what was left out; tables are shown when they are made."""
        lines = [machine()]
        if self.goals:
            lines += ["", *goals_table(self.goals)]
        lines += ["", "seconds: " + ", ".join(f"{name} {spent:.0f}" for name, spent in self.seconds.items())]
        lines += [f"not measured: {name}: {reason}" for name, reason in self.missing.items()]
        return "\n".join(lines)

    def as_json(self) -> str:
        """All of it; infinite and unknown numbers are null."""
        tables = {
            name: [{"title": part.title, "rows": [dataclasses.asdict(row) for row in part.rows]} for part in sections]
            for name, sections in self.sections.items()
        }
        goals = [{**dataclasses.asdict(goal), "ratio": goal.reached, "met": goal.met} for goal in self.goals]
        rest = {"missing": self.missing, "seconds": self.seconds}
        return json.dumps(_plain({"machine": machine(), "tables": tables, "goals": goals, **rest}), indent=2)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def _cell(value: Any) -> str:
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
