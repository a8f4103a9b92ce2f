"""A comparison as text, as a table for notebooks, and as a page with plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from modelyard import pages
from modelyard.monitoring.comparison import ColumnComparison, Comparison
from modelyard.monitoring.paired import PairComparison
from modelyard.monitoring.verdicts import Verdict

HEADINGS = ("column", "verdict", "distance", "PSI", "JS", "missing", "by chance", "what")


def page(found: Comparison) -> str:
    """The whole page."""
    return pages.page(f"{found.reference} → {found.current}", _body(found))


def fragment(found: Comparison) -> str:
    """What a notebook shows."""
    said = "".join(f"<p>{escape(line)}</p>" for line in remarks(found))
    return f"{said}{pages.rows(HEADINGS, map(cells, found.columns))}"


def text(found: Comparison) -> str:
    """A table for a terminal."""
    lines = [HEADINGS, *map(cells, found.columns)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEADINGS))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([f"{found.reference} -> {found.current}", *remarks(found), "", *table])


def remarks(found: Comparison) -> Iterator[str]:
    """What is said of the two tables as a whole."""
    many = [each.verdict for each in found.columns]
    counted = ", ".join(f"{many.count(verdict)} {verdict}" for verdict in Verdict if verdict in many)
    yield f"{found.reference_rows:,} and {found.rows:,} rows; {counted or 'no column in common'}"
    yield (
        f"If nothing had changed, any column would be called moved in {found.level:.2%} of comparisons at most. "
        f"Distances from about {found.noticed_from:.1%} on would have been noticed."
    )
    for what, names in (("gone", found.removed), ("new", found.added), ("not compared", found.not_compared)):
        if names:
            yield f"columns {what}: {', '.join(names)}"
    yield from paired(found.pairs)
    for name, was, now in found.types_changed:
        yield f"type of {name}: {was} before, {now} now"


def paired(pairs: Sequence[PairComparison]) -> Iterator[str]:
    """A line for each pair of columns that moved."""
    yield from (f"pair moved: {pair.said}" for pair in pairs if pair.verdict is Verdict.MOVED)


def pair_plots(pairs: Sequence[PairComparison]) -> Iterator[str]:
    """A plot of the combinations that changed most, for each pair that moved."""
    for pair in pairs:
        if pair.verdict is Verdict.MOVED:
            parts = [(each.label, each.reference, each.current) for each in pair.bins]
            yield pages.plot(f"{' and '.join(pair.columns)}: combinations that changed most", parts, strong=True)


def cells(column: ColumnComparison) -> Sequence[str]:
    """A line of the table."""
    effect = column.effect
    if effect is None:
        return column.column, column.verdict.value, "", "", "", "", "", column.said
    missing = f"{column.missing[1]:.1%}" if any(column.missing) else ""
    return (
        column.column,
        column.verdict.value,
        f"{effect.distance:.1%}",
        f"{effect.psi:.3f}",
        f"{effect.jensen_shannon:.3f}",
        missing,
        _chance(column.chance),
        column.said,
    )


def _chance(chance: float) -> str:
    if chance >= 0.1:
        return "likely" if chance >= 1 else f"{chance:.0%}"
    return f"{chance:.2g}" if chance > 1e-9 else "< 1e-9"


def _body(found: Comparison) -> Iterator[str]:
    for line in remarks(found):
        yield f"<p>{escape(line)}</p>"
    yield pages.rows(HEADINGS, map(cells, found.columns))
    yield "<h2>Distributions</h2>"
    yield "<p class='key'><i class='before'></i>reference<i class='after'></i>current</p>"
    for column in found.columns:
        if column.bins:
            said = f"{column.column}: {column.verdict.value}{', ' if column.said else ''}{column.said}"
            parts = [(each.label, each.reference, each.current) for each in column.bins]
            yield pages.plot(said, parts, strong=column.verdict is Verdict.MOVED)
    yield from pair_plots(found.pairs)
