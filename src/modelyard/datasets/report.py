"""The report of a difference as one HTML page with plots, which needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from modelyard import pages
from modelyard.datasets.differing import ColumnMove, DataDiff, FileDiff, RowDiff, TableDiff
from modelyard.pages import rows as _rows

_LISTED = 200


def page(diff: DataDiff) -> str:
    """The whole page."""
    return pages.page(f"{diff.before} → {diff.after}", body(diff))


def body(diff: DataDiff) -> Iterable[str]:
    """What the page says, below its title."""
    if diff.same:
        yield "<p>The two versions are the same, byte for byte.</p>"
        return
    yield _files(diff.files)
    for what, names in (("added", diff.tables_added), ("removed", diff.tables_removed), ("the same", diff.tables_same)):
        if names:
            yield f"<p>Tables {what}: {escape(', '.join(names))}</p>"
    for table in diff.tables:
        yield from _table(table)


def _files(files: FileDiff) -> str:
    moved = [f"{origin} → {to}" for origin, to in files.moved]
    rows = [
        (what, len(names), ", ".join(names[:_LISTED]) + (" …" if len(names) > _LISTED else ""))
        for what, names in (
            ("added", files.added),
            ("removed", files.removed),
            ("changed", files.changed),
            ("renamed", moved),
        )
        if names
    ]
    return "<h2>Files</h2>" + _rows(("", "files", ""), [*rows, ("unchanged", files.unchanged, "")])


def _table(table: TableDiff) -> Iterable[str]:
    yield f"<h2>Table {escape(table.name)}</h2>"
    yield f"<p>{table.rows_before:,} rows before, {table.rows_after:,} after.</p>"
    columns = [
        *(("added", name, kind) for name, kind in table.columns_added),
        *(("removed", name, kind) for name, kind in table.columns_removed),
        *(("type changed", name, f"{was} → {now}") for name, was, now in table.types_changed),
    ]
    if columns:
        yield "<h3>Columns</h3>" + _rows(("", "column", "type"), columns)
    if table.reordered:
        yield "<p>The columns are in another order.</p>"
    yield from _row_diff(table.rows)
    if table.moves:
        yield "<h3>Distributions</h3>" + _moves(table.moves)
        yield "<p class='key'><i class='before'></i>before<i class='after'></i>after</p>"
        yield "".join(_plot(move) for move in table.moves if move.bins)


def _row_diff(rows: RowDiff) -> Iterable[str]:
    by = f"by {', '.join(rows.key)}" if rows.key else "as whole rows"
    yield f"<h3>Rows, {escape(by)}</h3>"
    if rows.note:
        yield f"<p>{escape(rows.note)}</p>"
    counts = [("added", rows.added), ("removed", rows.removed)]
    counts += [("changed", rows.changed)] if rows.key else []
    yield _rows(("", "rows"), [*counts, ("unchanged", rows.unchanged)])
    if rows.changed_by_column:
        ordered = sorted(rows.changed_by_column.items(), key=lambda item: (-item[1], item[0]))
        yield _rows(("column", "changed in rows"), ordered)
    if rows.examples:
        yield "<h3>Some of them</h3>"
        yield _rows(("", "key", "column", "before", "after"), list(_examples(rows)))


def _examples(rows: RowDiff) -> Iterable[tuple[Any, ...]]:
    for example in rows.examples:
        key = ", ".join(f"{name}={value}" for name, value in example.key.items())
        if not example.values:
            yield example.change, key, "", "", ""
        for name, before, after in example.values:
            yield example.change, key, name, _cell(before), _cell(after)


def _cell(value: Any) -> str:
    return "missing" if value is None else str(value)


def _moves(moves: Sequence[ColumnMove]) -> str:
    return _rows(
        (
            "column",
            "moved",
            "distance",
            "by chance up to",
            "mean before",
            "mean after",
            "missing before",
            "missing after",
        ),
        [
            (
                move.column,
                "yes" if move.moved else "no",
                f"{move.distance:.3f}",
                f"{move.by_chance:.3f}",
                "" if move.mean_before is None else f"{move.mean_before:.6g}",
                "" if move.mean_after is None else f"{move.mean_after:.6g}",
                f"{move.missing_before:.2%}",
                f"{move.missing_after:.2%}",
            )
            for move in moves
        ],
    )


def _plot(move: ColumnMove) -> str:
    said = f"{move.column}: {'moved' if move.moved else 'not moved'}, distance {move.distance:.3f}"
    return pages.plot(said, [(part.label, part.before, part.after) for part in move.bins], strong=move.moved)
