"""One honest look at two tables: for each column what is different, how sure that is, and what it comes to in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from modelyard.errors import Failed, InvalidRequest
from modelyard.monitoring.chance import noticed_from, shared_out, surprises
from modelyard.monitoring.columns import Column, Table, table_of
from modelyard.monitoring.effects import Effect, effect, grouped, share
from modelyard.monitoring.facets import Facet, Margins, Questions, questions
from modelyard.monitoring.paired import PairComparison, Paired
from modelyard.monitoring.pairs import Met
from modelyard.monitoring.reference import Reference, tallied
from modelyard.monitoring.slots import Counts, NumberSlots, Slots, Tally
from modelyard.monitoring.verdicts import Bin, Verdict
from modelyard.monitoring.windows import Profile


class Finding(msgspec.Struct, frozen=True):
    """One facet of a column: by how much it differs, and whether chance does not explain that and it matters.

    `chance` is the probability of so much or more in any question about any column of the table, if both tables were
    drawn from the same source.
    """

    facet: Facet
    difference: float
    chance: float
    moved: bool


class ColumnComparison(msgspec.Struct, frozen=True):
    """A column that both tables have. `said` is the verdict's reason in words."""

    column: str
    verdict: Verdict
    said: str
    chance: float = 1.0
    effect: Effect | None = None
    findings: tuple[Finding, ...] = ()
    missing: tuple[float, float] = (0.0, 0.0)
    mean: tuple[float, float] | None = None
    range: tuple[tuple[float, float] | None, tuple[float, float] | None] | None = None
    newcomers: tuple[tuple[str, int], ...] = ()
    newcomers_distinct: int = 0
    bins: tuple[Bin, ...] = ()


class Comparison(msgspec.Struct, frozen=True):
    """Two tables compared once. It prints as a table, in a terminal and in a notebook.

    If both were drawn from the same source, some column is called moved with probability `level` at most, however many
    columns there are; rows have to be independent of each other. `noticed_from` is the distance from which on a column
    would have been noticed with so many rows.
    """

    reference: str
    current: str
    reference_rows: int
    rows: int
    columns: tuple[ColumnComparison, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    types_changed: tuple[tuple[str, str, str], ...]
    not_compared: tuple[str, ...]
    level: float
    margins: Margins
    noticed_from: float
    pairs: tuple[PairComparison, ...] = ()
    """Pairs of columns that are counted together, those that moved first; see `PairComparison`."""

    @property
    def moved(self) -> tuple[str, ...]:
        """The columns that moved, the largest difference first."""
        return tuple(column.column for column in self.columns if column.verdict is Verdict.MOVED)

    @property
    def pairs_moved(self) -> tuple[tuple[str, str], ...]:
        """The pairs of columns that no longer go together as they did, the largest difference first."""
        return tuple(pair.columns for pair in self.pairs if pair.verdict is Verdict.MOVED)

    @property
    def drift(self) -> bool:
        """Whether anything moved, is gone, or cannot be compared any more."""
        return bool(self.moved or self.pairs_moved or self.removed) or any(
            each.verdict is Verdict.UNREADABLE for each in self.columns
        )

    def __getitem__(self, column: str) -> ColumnComparison:
        """One column; KeyError where the two tables do not share it."""
        for each in self.columns:
            if each.column == column:
                return each
        raise KeyError(column)

    def to_dict(self) -> dict[str, Any]:
        """All of it as dicts, lists, texts and numbers."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        pairs = [list(pair) for pair in self.pairs_moved]
        return {"drift": self.drift, "moved": list(self.moved), "pairs_moved": pairs, **document}

    def html(self, file: str | Path) -> Path:
        """Write it as one page with plots that needs nothing beside itself; gives the path.

        Raises:
            Failed: it cannot be written.
        """
        from modelyard.monitoring.report import page

        path = Path(file)
        try:
            path.write_text(page(self), encoding="utf-8")
        except OSError as error:
            raise Failed(f"the report cannot be written to {path}: {error}") from error
        return path

    def __repr__(self) -> str:
        from modelyard.monitoring.report import text

        return text(self)

    def _repr_html_(self) -> str:
        from modelyard.monitoring.report import fragment

        return fragment(self)


def compare(
    reference: Reference,
    current: Any,
    *,
    names: tuple[str, str] = ("reference", "current"),
    level: float = 0.01,
    margins: Margins | None = None,
) -> Comparison:
    """Compare a table with a reference; see `Comparison`.

    >>> made = Reference.of_table({"n": [float(at % 50) for at in range(5000)]})
    >>> compare(made, {"n": [float(at % 50 + 10) for at in range(5000)]}).moved
    ('n',)

    Raises:
        InvalidRequest: it is no table, or `level` is no probability.
    """
    if not 0 < level < 1:
        raise InvalidRequest(f"the level {level} is no probability; write one between 0 and 1, such as 0.01")
    margins = margins or Margins()
    table = current if isinstance(current, Table) else table_of(current)
    asked = {
        name: questions(slots, slots.reference) for name, slots in reference.slots.items() if name in table.columns
    }
    ask = _Asking(reference, asked, level, margins, table.rows)
    compared = _sorted(ask.about(name, each, table.columns[name]) for name, each in asked.items())
    readable = {each.column: table.columns[each.column] for each in compared if each.verdict is not Verdict.UNREADABLE}
    met = reference.pairs.met(Table(table.rows, readable)) if reference.pairs is not None else {}
    both = [name for name in reference.families if name in table.columns]
    return Comparison(
        reference=names[0],
        current=names[1],
        reference_rows=reference.rows,
        rows=table.rows,
        columns=tuple(compared),
        added=tuple(name for name in table.columns if name not in reference.families),
        removed=tuple(name for name in reference.families if name not in table.columns),
        types_changed=tuple(
            (name, reference.families[name], table.columns[name].family)
            for name in both
            if reference.families[name] != table.columns[name].family and not _all_missing(reference, name)
        ),
        not_compared=tuple(name for name in reference.skipped if name in table.columns),
        level=level,
        margins=margins,
        noticed_from=noticed_from(table.rows, reference.rows, ask.number, level),
        pairs=ask.together(met),
    )


def compare_counts(
    reference: Reference,
    current: Profile,
    *,
    names: tuple[str, str] = ("reference", "current"),
    level: float = 0.01,
    margins: Margins | None = None,
) -> Comparison:
    """As `compare`, with rows that were counted before; columns that were not counted are told as removed.

    >>> made = Reference.of_table({"n": [float(at % 50) for at in range(5000)]})
    >>> compare_counts(made, made.profile({"n": [float(at % 50 + 10) for at in range(5000)]})).moved
    ('n',)

    Raises:
        InvalidRequest: it was counted in slots of another reference.
    """
    if current.reference != reference.digest:
        raise InvalidRequest("these rows were counted in slots of another reference; count them again with this one")
    margins = margins or Margins()
    there = {name: slots for name, slots in reference.slots.items() if name in current.columns}
    asked = {name: questions(slots, slots.reference) for name, slots in there.items()}
    ask = _Asking(reference, asked, level, margins, current.rows)
    compared = _sorted(ask.counted(name, each, current.columns[name]) for name, each in asked.items())
    return Comparison(
        reference=names[0],
        current=names[1],
        reference_rows=reference.rows,
        rows=current.rows,
        columns=tuple(compared),
        added=(),
        removed=tuple(name for name in reference.slots if name not in current.columns),
        types_changed=(),
        not_compared=reference.skipped,
        level=level,
        margins=margins,
        noticed_from=noticed_from(current.rows, reference.rows, ask.number, level),
        pairs=ask.together(current.met),
    )


def _sorted(columns: Iterable[ColumnComparison]) -> list[ColumnComparison]:
    order = list(Verdict)
    return sorted(columns, key=lambda each: (order.index(each.verdict), -_size(each)))


def _size(column: ColumnComparison) -> float:
    return max((finding.difference for finding in column.findings), default=0.0)


def _all_missing(reference: Reference, name: str) -> bool:
    described = reference.described[name]
    return bool(described["n"] == described["missing"])


class _Asking:
    """What is the same for all columns of one comparison."""

    def __init__(
        self, reference: Reference, asked: Mapping[str, Questions], level: float, margins: Margins, rows: int
    ) -> None:
        self._reference = reference
        self._pairs = None if reference.pairs is None else Paired(reference.pairs, len(reference.slots), asked)
        self.number = sum(len(each.facets) for each in asked.values()) + (self._pairs.number if self._pairs else 0)
        self._error = math.log(8 * max(self.number, 1) / level)  # small enough not to stand in the way of the level
        self._level = level
        self._margins = margins
        self._rows = rows

    def about(self, name: str, asked: Questions, column: Column) -> ColumnComparison:
        """One column of the table."""
        slots = self._reference.slots[name]
        was = self._reference.families[name]
        try:
            tally = tallied(slots, column)
        except InvalidRequest:
            return ColumnComparison(name, Verdict.UNREADABLE, f"{was} before, {column.family} now")
        if column.sort == "other":
            return ColumnComparison(name, Verdict.UNREADABLE, f"{was} before, {column.type} now")
        return self._compared(name, slots, asked, tally)

    def together(self, met: Met) -> tuple[PairComparison, ...]:
        """The pairs of columns that both tables have."""
        if self._pairs is None:
            return ()
        enough = noticed_from(self._rows, self._reference.rows, self.number, self._level) <= 2 * self._margins.distance
        quiet = Verdict.STEADY if enough else Verdict.TOO_LITTLE
        return self._pairs.compared(met, lambda log: shared_out(log, self.number), self._level, self._margins, quiet)

    def counted(self, name: str, asked: Questions, tally: Tally) -> ColumnComparison:
        """One column that was counted before."""
        return self._compared(name, self._reference.slots[name], asked, tally)

    def _compared(self, name: str, slots: Slots, asked: Questions, tally: Tally) -> ColumnComparison:
        reference, current = slots.reference, tally.counts
        found = effect(slots, reference, current)
        logs = surprises(asked, reference, current, self._error)
        findings = tuple(
            self._finding(facet, _difference(facet, slots, reference, current, found), log)
            for facet, log in logs.items()
        )
        named = tally.newcomers.named() if tally.newcomers else ()
        column = ColumnComparison(
            column=name,
            verdict=self._verdict(findings, int(current.sum()), int(reference.sum())),
            said="",
            chance=min(finding.chance for finding in findings),
            effect=found,
            findings=findings,
            missing=(share(reference, slots.MISSING), share(current, slots.MISSING)),
            mean=_means(self._reference.described[name], tally),
            range=_ranges(slots, tally),
            newcomers=named,
            newcomers_distinct=tally.newcomers.distinct if tally.newcomers else 0,
            bins=tuple(bins(slots, reference, current)),
        )
        return msgspec.structs.replace(column, said="; ".join(self._said(column)))

    def _finding(self, facet: Facet, difference: float, log_chance: float) -> Finding:
        chance = shared_out(log_chance, self.number)
        moved = chance <= self._level and abs(difference) >= self._margins.of(facet)
        return Finding(facet, difference, chance, moved)

    def _verdict(self, findings: tuple[Finding, ...], rows: int, reference_rows: int) -> Verdict:
        if any(finding.moved for finding in findings):
            return Verdict.MOVED
        if any(finding.chance <= self._level for finding in findings):
            return Verdict.HARMLESS
        enough = noticed_from(rows, reference_rows, self.number, self._level) <= 2 * self._margins.distance
        return Verdict.STEADY if enough else Verdict.TOO_LITTLE

    def _said(self, column: ColumnComparison) -> Iterator[str]:
        """Facet by facet that moved, or how little it is."""
        if column.verdict is Verdict.HARMLESS:
            yield f"by {max(abs(each.difference) for each in column.findings if each.chance <= self._level):.1%} only"
        for finding in column.findings:
            if finding.moved:
                yield _SAYING[finding.facet](column, finding)
        if any(finding.facet is Facet.NEW and finding.difference and not finding.moved for finding in column.findings):
            yield f"new: {_named(column)}"


def _difference(facet: Facet, slots: Slots, reference: Counts, current: Counts, found: Effect) -> float:
    if facet is Facet.DISTRIBUTION:
        return found.distance
    if facet is Facet.MISSING:
        return found.missing_change
    if isinstance(slots, NumberSlots):
        outside = (slots.INFINITE, slots.BELOW, slots.above)
        return sum(share(current, slot) - share(reference, slot) for slot in outside)
    return share(current, slots.NEW)


def _distribution(column: ColumnComparison, finding: Finding) -> str:
    mean = "" if column.mean is None else f", mean {column.mean[0]:.4g} -> {column.mean[1]:.4g}"
    if column.mean is None and column.bins:
        most = max(column.bins, key=lambda each: abs(each.current - each.reference))
        mean = f", {most.label} {most.reference:.1%} -> {most.current:.1%}"
    return f"distribution by {finding.difference:.1%}{mean}"


def _missing(column: ColumnComparison, finding: Finding) -> str:
    return f"missing {column.missing[0]:.1%} -> {column.missing[1]:.1%}"


def _outside(column: ColumnComparison, finding: Finding) -> str:
    if column.range is None or column.range[0] is None:
        return f"{finding.difference:.1%} outside of all that was seen"
    least, largest = column.range[0]
    return f"{finding.difference:.1%} outside {least:.4g} to {largest:.4g}"


def _new(column: ColumnComparison, finding: Finding) -> str:
    return f"{finding.difference:.1%} new: {_named(column)}"


def _named(column: ColumnComparison) -> str:
    """Newcomers with their counts, and how many others there are."""
    shown = [f"{name} ({count:,})" for name, count in column.newcomers[:4]]
    others = column.newcomers_distinct - len(shown)
    return ", ".join([*shown, *([f"{others:,} {'others' if shown else 'rare values'}"] if others > 0 else [])])


_SAYING = {
    Facet.DISTRIBUTION: _distribution,
    Facet.MISSING: _missing,
    Facet.OUTSIDE: _outside,
    Facet.NEW: _new,
}


def _means(described: Mapping[str, Any], tally: Tally) -> tuple[float, float] | None:
    if tally.moments is None or tally.moments.mean is None or "unit" in described or described.get("sum") is None:
        return None
    finite = described["n"] - described["missing"] - described["infinite"]
    return (described["sum"] / finite, tally.moments.mean) if finite else None


def _ranges(slots: Slots, tally: Tally) -> tuple[tuple[float, float] | None, tuple[float, float] | None] | None:
    if not isinstance(slots, NumberSlots) or tally.moments is None:
        return None
    before = None if slots.least is None or slots.largest is None else (slots.least, slots.largest)
    found = tally.moments
    return before, None if found.least is None or found.largest is None else (found.least, found.largest)


def bins(slots: Slots, reference: Counts, current: Counts) -> Iterator[Bin]:
    """For a plot: groups of slots that hold anything."""
    whole, now = max(int(reference.sum()), 1), max(int(current.sum()), 1)
    for group in grouped(slots, reference):
        before, after = int(reference[list(group)].sum()), int(current[list(group)].sum())
        if before or after:
            yield Bin(_label(slots, group), before / whole, after / now)


def _label(slots: Slots, group: tuple[int, ...]) -> str:
    if len(group) == 1:
        return slots.label(group[0])
    if not isinstance(slots, NumberSlots):
        return "others"
    ends = [end for slot in group for end in _ends(slots, slot) if not math.isinf(end)]
    return f"{min(ends):.4g} to {max(ends):.4g}" if ends else "all"


def _ends(slots: NumberSlots, slot: int) -> tuple[float, float]:
    if slot == slots.BELOW:
        return -math.inf, math.inf
    if slot == slots.above:
        return -math.inf, math.inf
    if slot > slots.above:
        atom = slots.atoms[slot - slots.above - 1]
        return atom, atom
    at = slot - slots.FIRST
    end = slots.starts[at + 1] if at + 1 < len(slots.starts) else slots.end
    return slots.starts[at], slots.starts[at] if end is None else end
