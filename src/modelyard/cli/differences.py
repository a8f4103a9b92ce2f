"""A difference between two versions of data, as text for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelyard.cli.cards import put, table
from modelyard.cli.output import out

if TYPE_CHECKING:
    from modelyard.datasets.differing import DataDiff, FileDiff, RowDiff, TableDiff

_LISTED = 20


def print_diff(diff: DataDiff) -> None:
    """All of it: files, then table by table."""
    out.print(f"{diff.before} -> {diff.after}", markup=False, style="bold")
    if diff.same:
        out.print("the same, byte for byte")
        return
    for line in _files(diff.files):
        out.print(line, markup=False)
    for what, names in (("added", diff.tables_added), ("removed", diff.tables_removed), ("the same", diff.tables_same)):
        if names:
            out.print(f"tables {what}: {', '.join(names)}", markup=False)
    for each in diff.tables:
        _print_table(each)


def _files(files: FileDiff) -> Iterator[str]:
    moved = tuple(f"{origin} -> {to}" for origin, to in files.moved)
    for what, names in (("added", files.added), ("removed", files.removed), ("changed", files.changed)):
        if names:
            yield f"files {what}: {_listed(names)}"
    if moved:
        yield f"files renamed: {_listed(moved)}"
    yield f"files unchanged: {files.unchanged:,}"


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _print_table(diff: TableDiff) -> None:
    out.print(f"\ntable {diff.name}: {diff.rows_before:,} -> {diff.rows_after:,} rows", markup=False, style="bold")
    for name, kind in diff.columns_added:
        out.print(f"column added: {name} ({kind})", markup=False)
    for name, kind in diff.columns_removed:
        out.print(f"column removed: {name} ({kind})", markup=False)
    for name, was, now in diff.types_changed:
        out.print(f"type changed: {name} ({was} -> {now})", markup=False)
    if diff.reordered:
        out.print("the columns are in another order")
    _print_rows(diff.rows)
    _print_moves(diff)


def _print_rows(rows: RowDiff) -> None:
    if rows.note:
        out.print(rows.note, markup=False)
    by = f"by {', '.join(rows.key)}" if rows.key else "as whole rows; name a key with --key to see which changed"
    changed = f", {rows.changed:,} changed" if rows.key else ""
    out.print(f"rows: {rows.added:,} added, {rows.removed:,} removed{changed}, {rows.unchanged:,} unchanged ({by})")
    if rows.changed_by_column:
        ordered = sorted(rows.changed_by_column.items(), key=lambda item: (-item[1], item[0]))
        out.print("changed in: " + ", ".join(f"{name} {count:,}" for name, count in ordered), markup=False)
    shown = [
        [example.change, _key(example.key), name, str(before), str(after)]
        for example in rows.examples
        for name, before, after in (example.values or (("", "", ""),))
    ]
    if shown:
        put(table(["row", "key", "column", "before", "after"], shown))


def _key(key: dict[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in key.items())


def _print_moves(diff: TableDiff) -> None:
    if not diff.moves:
        return
    moved = [move for move in diff.moves if move.moved]
    still = len(diff.moves) - len(moved)
    out.print(f"distributions: {len(moved)} moved, {still} did not")
    if moved:
        rows = [
            [
                move.column,
                f"{move.distance:.3f}",
                f"{move.by_chance:.3f}",
                "" if move.mean_before is None else f"{move.mean_before:.6g} -> {move.mean_after:.6g}",
                f"{move.missing_before:.2%} -> {move.missing_after:.2%}",
            ]
            for move in moved
        ]
        put(table(["column", "distance", "by chance up to", "mean", "missing"], rows))
