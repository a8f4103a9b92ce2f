"""A difference between versions as sections of rows, from which text and page are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from modelyard.comparing.answers import AnswersDiff, Speed
from modelyard.comparing.differing import Change, VersionDiff

Section: TypeAlias = tuple[str, Sequence[str], list[tuple[str, ...]]]
"""Title, headings, rows."""

_MOST_VALUES = 12


def sections(found: VersionDiff) -> Iterator[Section]:
    """All that differs but code; sections without a row are left out."""
    yield from _named("data", ("", "before", "after"), list(_data(found)))
    for title, changes in (
        ("parameters", found.params),
        ("metrics", found.metrics),
        ("schema", found.schema),
        (f"environment (of {found.environment_of})", found.environment),
        ("training", found.training),
        ("model", found.model),
    ):
        yield from _named(title, ("", "before", "after", ""), [row(change) for change in changes])


def _named(title: str, headings: Sequence[str], rows: list[tuple[str, ...]]) -> Iterator[Section]:
    if rows:
        yield title, headings, rows


def _data(found: VersionDiff) -> Iterator[tuple[str, ...]]:
    for change in found.data:
        yield change.dataset, said(change.before), said(change.after)
        if change.files is not None:
            counts = ("added", change.files.added), ("removed", change.files.removed), ("changed", change.files.changed)
            told = ", ".join(f"{len(names):,} {what}" for what, names in counts if names)
            yield "  files", "", told or "the same"
        yield from ((f"  {one.name}", said(one.before), said(one.after)) for one in change.tables)
        if change.command:
            yield "  see", "", change.command
    if any(found.other_files):
        yield ("files of no version", *(said(count) for count in found.other_files))


def row(change: Change) -> tuple[str, str, str, str]:
    """Name, before, after, and for numbers by how much they differ; of long lists only what came and went.

    >>> row(Change("auc", 0.80, 0.84))
    ('auc', '0.8', '0.84', '+0.04')
    """
    was, now = change.before, change.after
    if isinstance(was, tuple) and isinstance(now, tuple):
        return (change.name, _listed(was, now), _listed(now, was), "")
    return (change.name, said(was), said(now), _by(was, now))


def _listed(mine: tuple[Any, ...], others: tuple[Any, ...]) -> str:
    alone = [value for value in mine if value not in others]
    if not alone:
        return "" if mine != others[: len(mine)] else f"{len(mine)} values"
    more = f" and {len(alone) - _MOST_VALUES} more" if len(alone) > _MOST_VALUES else ""
    return f"{len(mine)} values; only here: {', '.join(map(str, alone[:_MOST_VALUES]))}{more}"


def _by(was: Any, now: Any) -> str:
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in (was, now)):
        return ""
    return f"{now - was:+,}" if isinstance(now - was, int) else f"{now - was:+.6g}"


def said(value: Any) -> str:
    """A value in a cell; nothing where there is none.

    >>> said(None), said(1234567), said(0.5), said(("a", "b"))
    ('-', '1,234,567', '0.5', 'a, b')
    """
    if value is None:
        return "-"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(str, value))


def speed_rows(speed: Speed) -> list[tuple[str, ...]]:
    """One line a version: median and quartiles in microseconds."""
    sides = (("before", speed.before), ("after", speed.after))
    return [(name, *(f"{value:,.1f}" for value in side)) for name, side in sides if side is not None]


def answers_rows(found: AnswersDiff) -> list[tuple[str, ...]]:
    """One line an output."""
    return [
        (
            one.name,
            one.role,
            one.problem or f"{one.rows:,}",
            f"{one.beyond:,}",
            f"{one.flips:,}" if one.role == "label" else "",
            "" if one.role == "label" else f"{one.largest_abs:.6g}",
        )
        for one in found.outputs
    ]


ANSWERS = ("output", "means", "rows that differ", "beyond tolerance", "labels flipped", "largest difference")
SPEED = ("", "median µs", "lower quartile", "upper quartile")


def answers_lines(found: AnswersDiff) -> Iterator[str]:
    """What is to be said above the table."""
    share = f" ({found.differing / found.compared:.2%})" if found.compared else ""
    yield f"{found.differing:,} of {found.compared:,} rows get other answers{share}"
    if any(found.refused_by):
        yield f"of {found.rows:,} rows, {found.refused_by[0]:,} are refused before and {found.refused_by[1]:,} after"
    for what, names in (("no longer answered", found.only_before), ("newly answered", found.only_after)):
        if names:
            yield f"{what}: {', '.join(names)}"
