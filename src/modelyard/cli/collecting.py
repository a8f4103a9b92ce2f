"""Freeing the room of what nothing refers to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.output import Json, emit, err, out, reported_errors

if TYPE_CHECKING:
    from modelyard.collecting.gc import Found, Freed

app = typer.Typer()

_AGE = re.compile(r"(\d+)\s*(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@app.command()
def gc(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove it. Without, it is only shown.")] = False,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Leave alone what was stored later: 12h, 1d, 2w.")
    ] = "1d",
    as_json: Json = False,
) -> None:
    """Show what nothing refers to and how much room it takes; with --yes, free it.

    Content of removed versions and runs, bundles that no version has, environments that can be built again, and what
    killed processes left. Others may snapshot, pack and register meanwhile.

    Example: modelyard gc

    Example: modelyard gc --yes --older-than 2w
    """
    from modelyard.collecting.gc import Collector
    from modelyard.registry import Registry
    from modelyard.registry.datasets import Datasets
    from modelyard.runs.shipping import recover

    age = _age(older_than)
    with reported_errors(as_json), Registry.open() as registry:
        recover(registry.home)
        datasets = Datasets(registry.home, registry.database)
        try:
            with _progress(as_json) as tell:
                collector = Collector(registry, datasets, age, tell)
                found = collector.survey()
                freed = collector.collect(found) if yes else None
        finally:
            datasets.close()
        emit(_facts(found, freed), as_json, lambda: _print(found, freed, older_than))
    if found.notes:
        raise typer.Exit(1)


def _age(text: str) -> timedelta:
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no age; write 30m, 12h, 1d or 2w", param_hint="--older-than")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


@contextmanager
def _progress(as_json: bool) -> Iterator[Callable[[str, int], None]]:
    if as_json or not err.is_terminal:
        yield lambda what, count: None
        return
    with err.status("looking") as status:
        yield lambda what, count: status.update(f"{what}: {count:,}")


def _facts(found: Found, freed: Freed | None) -> dict[str, Any]:
    content = found.content
    return {
        "found": {
            "bytes": found.bytes,
            "packs": [{"name": pack.name, "bytes": pack.bytes} for pack in content.dead],
            "packs_to_rewrite": [
                {"name": pack.name, "bytes": pack.bytes, "used": pack.used} for pack in content.sparse
            ],
            "bundles": [{"digest": bundle.name, "bytes": bundle.bytes} for bundle in found.bundles],
            "folders": [
                {"what": folder.what, "path": str(folder.path), "bytes": folder.bytes} for folder in found.folders
            ],
            "kept_bytes": content.kept,
            "young_bytes": content.young,
            "idle_bytes": content.idle,
        },
        "freed": freed,
        "notes": found.notes,
    }


def _print(found: Found, freed: Freed | None, older_than: str) -> None:
    from modelyard.cli.cards import put, table

    for note in found.notes:
        err.print(note, markup=False)
    rows = [row for row in _rows(found) if row[1] != "0"]
    if rows:
        put(table(["nothing refers to", "how many", "frees"], rows))
    content = found.content
    if content.young:
        out.print(f"unused, but stored less than {older_than} ago: {size(content.young)}")
    if content.idle:
        out.print(f"unused in packs that are mostly used: {size(content.idle)}")
    if freed is not None:
        for note in freed.notes:
            err.print(note, markup=False)
        out.print(f"freed {size(freed.bytes)}")
    elif found.is_nothing:
        out.print("there is nothing to free")
    else:
        out.print(f"to free {size(found.bytes)}: modelyard gc --yes", markup=False)


def _rows(found: Found) -> Iterator[list[str]]:
    content = found.content
    yield _row("packs of content of data and runs", [pack.bytes for pack in content.dead])
    yield _row("packs that are mostly unused, to be rewritten", [pack.bytes - pack.used for pack in content.sparse])
    yield _row("bundles", [bundle.bytes for bundle in found.bundles])
    for what, said in (("environment", "environments, which can be built again"), ("leftover", "what was left behind")):
        yield _row(said, [folder.bytes for folder in found.folders if folder.what == what])


def _row(what: str, sizes: list[int]) -> list[str]:
    return [what, f"{len(sizes):,}", size(sum(sizes))]


def size(count: int) -> str:
    """Bytes for people.

    >>> size(999), size(2_500_000)
    ('999 B', '2.5 MB')
    """
    number, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{count} B" if unit == "B" else f"{number:.1f} {unit}"
