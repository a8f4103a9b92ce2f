"""Two versions beside each other: pure functions over what is known of each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from modelyard.datasets.differing import FileDiff, compare_files, pair
from modelyard.datasets.facts import Facts
from modelyard.datasets.tree import Tree
from modelyard.domain.environment import Environment
from modelyard.domain.manifest import Manifest
from modelyard.domain.run import Run
from modelyard.domain.schema import Column, Output, Scalar, Schema

_DIFF_LINES = 2000
"""So many lines of the difference of one file are kept."""


class DataSide(msgspec.Struct, frozen=True):
    """A version of data that a version was trained on."""

    ref: str
    facts: Facts
    tree: Tree


class Code(msgspec.Struct, frozen=True):
    """Code as text by path. `source` says where it is from, `commit` at which commit, `missing` what is not there."""

    files: Mapping[str, str]
    source: str
    commit: str | None = None
    missing: tuple[str, ...] = ()


class Side(msgspec.Struct, frozen=True):
    """All that is known of one of two versions. Without a recorded run, that is what its bundle says."""

    ref: str
    digest: str
    manifest: Manifest
    run: Run | None
    data: Mapping[str, DataSide]
    code: Code


class Change(msgspec.Struct, frozen=True):
    """A thing that is not the same: as it was and as it is; None where it was not, or is no longer, there."""

    name: str
    before: Any
    after: Any


class DataChange(msgspec.Struct, frozen=True):
    """A dataset of which other versions were read. `command` shows rows and distributions too."""

    dataset: str
    before: str | None
    after: str | None
    files: FileDiff | None = None
    tables: tuple[Change, ...] = ()
    command: str = ""


class FileChange(msgspec.Struct, frozen=True):
    """A file of code that differs, as a unified diff."""

    path: str
    change: str
    diff: str


class CodeDiff(msgspec.Struct, frozen=True):
    """Code of both: commits, where the files are from, and those that differ. `notes` say what could not be seen."""

    before: str | None
    after: str | None
    source: str
    files: tuple[FileChange, ...] = ()
    unchanged: int = 0
    notes: tuple[str, ...] = ()


class VersionDiff(msgspec.Struct, frozen=True):
    """All that differs between two versions but their answers.

    `same` says that they are the same version or of the same bytes. `environment_of` tells whether the environments are
    those of the training runs or what the models need.
    """

    before: str
    after: str
    same: bool
    runs: tuple[str | None, str | None]
    data: tuple[DataChange, ...]
    other_files: tuple[int | None, int | None]
    code: CodeDiff
    environment_of: str
    environment: tuple[Change, ...]
    params: tuple[Change, ...]
    metrics: tuple[Change, ...]
    training: tuple[Change, ...]
    schema: tuple[Change, ...]
    model: tuple[Change, ...]


def compare(before: Side, after: Side) -> VersionDiff:
    """All that differs, from one version to the other."""
    both = (before.run, after.run)
    recorded = all(run is not None and run.environment is not None for run in both)
    environments = [
        run.environment if recorded and run is not None and run.environment is not None else side.manifest.environment
        for run, side in zip(both, (before, after), strict=True)
    ]
    return VersionDiff(
        before=before.ref,
        after=after.ref,
        same=before.digest == after.digest,
        runs=(_id(before.run), _id(after.run)),
        data=tuple(_data(before.data, after.data)),
        other_files=(_others(before.run), _others(after.run)),
        code=_code(before.code, after.code),
        environment_of="the training runs" if recorded else "what the models need",
        environment=tuple(environment(environments[0], environments[1])),
        params=tuple(changes(*(run.params if run else {} for run in both))),
        metrics=tuple(changes(*({name: one.last for name, one in run.metrics.items()} if run else {} for run in both))),
        training=tuple(changes(*(_training(run) if run else {} for run in both))),
        schema=tuple(schema(before.manifest.schema, after.manifest.schema)),
        model=tuple(changes(_model(before.manifest), _model(after.manifest))),
    )


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    """What is not the same in two mappings, in the order of the first, then of the second; NaN is itself.

    >>> list(changes({"depth": 6, "seed": 1}, {"depth": 8, "seed": 1}))
    [Change(name='depth', before=6, after=8)]
    """
    for name in dict.fromkeys((*before, *after)):
        was, now = before.get(name), after.get(name)
        if was != now and not (was != was and now != now):
            yield Change(name, was, now)


def environment(before: Environment, after: Environment) -> Iterator[Change]:
    """Python, platform, linear algebra, threads, and packages; of one version with other files, that is said."""
    yield from changes(
        {"Python": before.python, "platform": before.platform, "linear algebra": before.blas},
        {"Python": after.python, "platform": after.platform, "linear algebra": after.blas},
    )
    yield from changes(
        {f"threads of {pool}": size for pool, size in before.threads.items()},
        {f"threads of {pool}": size for pool, size in after.threads.items()},
    )
    old = {one.name: one for one in before.distributions}
    new = {one.name: one for one in after.distributions}
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name), new.get(name)
        if was is None or now is None or was.version != now.version:
            yield Change(name, was and was.version, now and now.version)
        elif was.content and now.content and was.content != now.content:
            yield Change(name, f"{was.version} (files {was.content[:8]})", f"{now.version} (files {now.content[:8]})")


def schema(before: Schema, after: Schema) -> Iterator[Change]:
    """Columns and outputs: which there are, their types, what they take, their order."""
    for what, old, new in (
        (
            "column",
            {each.name: _column(each) for each in before.columns},
            {each.name: _column(each) for each in after.columns},
        ),
        (
            "output",
            {each.name: _output(each) for each in before.outputs},
            {each.name: _output(each) for each in after.outputs},
        ),
    ):
        for name in dict.fromkeys((*old, *new)):
            if name not in old or name not in new:
                yield Change(f"{what} {name}", old.get(name, {}).get("type"), new.get(name, {}).get("type"))
            else:
                yield from (
                    Change(f"{what} {name}: {one.name}", one.before, one.after) for one in changes(old[name], new[name])
                )
        kept = [[name for name in one if name in other] for one, other in ((old, new), (new, old))]
        if kept[0] != kept[1]:
            yield Change(f"order of {what}s", ", ".join(kept[0]), ", ".join(kept[1]))
    yield from changes({"layout of rows": before.layout}, {"layout of rows": after.layout})


def _column(column: Column) -> dict[str, Any]:
    accepts = column.accepts
    bounds = None if accepts.minimum is None and accepts.maximum is None else f"{accepts.minimum} .. {accepts.maximum}"
    return {
        "type": _type(column.kind.value, column.shape),
        "missing values": "taken" if column.nullable else "refused",
        "takes": bounds,
        "categories": _few(accepts.categories if accepts.categories is not None else column.categories),
        "seen categories": _few(column.seen.categories),
    }


def _output(output: Output) -> dict[str, Any]:
    return {"type": _type(output.kind.value, output.shape), "means": output.role, "classes": _few(output.classes)}


def _type(kind: str, shape: Sequence[int]) -> str:
    return kind + "".join(f"[{'any' if size < 0 else size}]" for size in shape)


def _few(values: tuple[Scalar, ...] | None) -> tuple[Scalar, ...] | None:
    """In one order, since the most frequent first would tell of frequencies."""
    return None if values is None else tuple(sorted(values, key=lambda value: (type(value).__name__, str(value))))


def _model(manifest: Manifest) -> dict[str, Any]:
    path = {"onnx": manifest.compiled, "python": manifest.native}[manifest.runtime]
    native = manifest.native
    return {
        "estimator": f"{manifest.estimator} ({manifest.framework})",
        "runtime": manifest.runtime,
        "compiled as": manifest.compiled.precision if manifest.compiled else None,
        "native form": native.format if native else None,
        "bytes of the bundle": sum(entry.size for entry in manifest.files.values()),
        "bytes of what computes": manifest.files[path.path].size if path else None,
        "golden rows": manifest.golden_rows,
        **{f"tag {name}": text for name, text in manifest.tags.items()},
    }


def _training(run: Run) -> dict[str, Any]:
    return {
        "command": " ".join(run.command),
        "outcome": run.outcome.state,
        "seconds": None if run.seconds is None else round(run.seconds, 1),
        "host": run.machine.host,
        "processor": run.machine.processor,
        "processor features": " ".join(run.machine.features),
        **{f"seed of {name}": said for name, said in run.seeds.items()},
        **run.settings,
    }


def _id(run: Run | None) -> str | None:
    return None if run is None else run.id


def _others(run: Run | None) -> int | None:
    return None if run is None else run.data.other_files


def _data(before: Mapping[str, DataSide], after: Mapping[str, DataSide]) -> Iterator[DataChange]:
    for name in dict.fromkeys((*before, *after)):
        was, now = before.get(name), after.get(name)
        if was is None or now is None:
            yield DataChange(name, None if was is None else was.ref, None if now is None else now.ref)
        elif was.ref != now.ref:
            files = compare_files(was.tree, now.tree)
            command = f"modelyard data diff {was.ref} {now.ref}"
            yield DataChange(name, was.ref, now.ref, files, tuple(_tables(was.facts, now.facts)), command)


def _tables(before: Facts, after: Facts) -> Iterator[Change]:
    pairs = pair(before, after)
    for old, new in pairs.both:
        facts = [
            {"rows": table.rows, **{f"column {each.name}": each.type for each in table.columns}} for table in (old, new)
        ]
        yield from (Change(f"table {new.name}: {one.name}", one.before, one.after) for one in changes(*facts))
    yield from (Change(f"table {table.name}: rows", table.rows, None) for table in pairs.removed)
    yield from (Change(f"table {table.name}: rows", None, table.rows) for table in pairs.added)


def _code(before: Code, after: Code) -> CodeDiff:
    paths = sorted(before.files.keys() | after.files.keys())
    changed = tuple(
        _file(path, before.files.get(path), after.files.get(path))
        for path in paths
        if before.files.get(path) != after.files.get(path)
    )
    notes = [
        f"not seen of {side}: {name}" for side, code in (("before", before), ("after", after)) for name in code.missing
    ]
    source = before.source if before.source == after.source else f"{before.source}; {after.source}"
    return CodeDiff(before.commit, after.commit, source, changed, len(paths) - len(changed), tuple(notes))


def _file(path: str, was: str | None, now: str | None) -> FileChange:
    change = "added" if was is None else "removed" if now is None else "changed"
    names = ("/dev/null" if was is None else f"a/{path}", "/dev/null" if now is None else f"b/{path}")
    lines = list(_unified((was or "").splitlines(keepends=True), (now or "").splitlines(keepends=True), names))
    if len(lines) > _DIFF_LINES:
        lines = [*lines[:_DIFF_LINES], f"... {len(lines) - _DIFF_LINES} more lines\n"]
    return FileChange(path, change, "".join(lines))


def _unified(was: Sequence[str], now: Sequence[str], names: tuple[str, str]) -> Iterable[str]:
    for line in difflib.unified_diff(was, now, *names):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
