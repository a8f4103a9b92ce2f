"""How a run ends: what its folder says becomes a record in the registry, and its files go to the store."""

from __future__ import annotations

import fcntl
import gzip
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from modelyard.bundle.distributions import installed as catalogue_of
from modelyard.bundle.environment import OtherProcess, lock_of, requirements
from modelyard.bundle.git import run_git
from modelyard.datasets.scan import find
from modelyard.datasets.snapshot import store_tree, take
from modelyard.domain.environment import Environment
from modelyard.domain.run import CodeState, Outcome, Process, Read, Run
from modelyard.errors import EnvironmentFailed, ModelyardError
from modelyard.home import Home
from modelyard.registry.again import again
from modelyard.runs import committed, machine, reads, repository
from modelyard.runs.beginning import Places
from modelyard.runs.folder import RunFolder
from modelyard.runs.yard import Yard, opened

_LOST = Outcome("lost", error="the process that recorded it died")


def end(folder: RunFolder, outcome: Outcome, seconds: float | None, *, pid: int | None = None) -> Run | None:
    """Record how a run ended. What cannot be stored now stays in its folder, and the program is not made to fail.

    Args:
        folder: Where the run was written down.
        outcome: How it ended.
        seconds: How long it took.
        pid: The process whose facts count, where there were several.

    Returns:
        The record; None where it could not be stored, which standard error says.
    """
    folder.put("outcome.json", (outcome, seconds))
    if pid is not None:
        folder.put("main.json", pid)
    try:
        with opened(folder.home) as yard:
            return ship(yard, folder)
    except (ModelyardError, OSError) as error:
        sys.stderr.write(f"modelyard: run {folder.path.name} is kept in {folder.path} only: {error}\n")
        return None


def recover(home: Home) -> tuple[str, ...]:
    """Take in the runs of this machine whose processes have died.

    Returns:
        Their ids. Folders that were left of other runs are removed.
    """
    done = []
    with opened(home) as yard:
        under_way = yard.runs.under_way()
        for run in under_way:
            folder = RunFolder.of(yard.home, run.id)
            if _is_over(run, folder) and _taken_in(yard, folder, run):
                done.append(run.id)
        _sweep(yard.home, {run.id for run in under_way})
    return tuple(done)


def _is_over(run: Run, folder: RunFolder) -> bool:
    if not machine.is_gone(run.process):
        return False
    try:
        child = msgspec.json.decode((folder.path / "process.json").read_bytes(), type=Process)
    except OSError:  # it never started, or the run had no process but its own
        return True
    return machine.is_gone(child)


def _taken_in(yard: Yard, folder: RunFolder, run: Run) -> bool:
    if not folder.path.exists():
        return yard.runs.give_up(replace(run, outcome=_LOST))
    try:
        ship(yard, folder)
    except (ModelyardError, OSError, msgspec.MsgspecError) as error:
        sys.stderr.write(f"modelyard: run {run.id} cannot be taken in from {folder.path}: {error}\n")
        return False
    return True


def _sweep(home: Home, under_way: Collection[str]) -> None:
    """Remove folders that a killed process left after its run was stored, or before it was known."""
    for path in home.runs.iterdir():
        if path.name not in under_way:
            with suppress(OSError, msgspec.MsgspecError):
                folder = RunFolder(path)
                if _is_over(folder.begun(), folder):
                    shutil.rmtree(path, ignore_errors=True)


def ship(yard: Yard, folder: RunFolder) -> Run:
    """Make the record of a run whose end is known, or that is lost, and remove its folder."""
    with (folder.path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = folder.outcome()
        outcome, seconds = known if known is not None else (_LOST, None)
        run, seen = _record(yard, folder, replace(folder.begun(), outcome=outcome, seconds=seconds))
        _write_files(folder, run, seen)
        again(lambda: _keep(yard, folder, run))
    shutil.rmtree(folder.path, ignore_errors=True)
    return run


def _keep(yard: Yard, folder: RunFolder, run: Run) -> None:
    taken = take(find([folder.files]), yard.datasets.store, yard.seen)
    tree = store_tree(taken.tree, yard.datasets.store)
    yard.runs.finish(run, taken.tree.digest, tree, taken.tree.chunks())


def _record(yard: Yard, folder: RunFolder, run: Run) -> tuple[Run, tuple[Read, ...]]:
    journal, found = folder.journal(), reads.opened(folder)
    facts = folder.facts(_main(folder))
    environment = _environment(facts)
    places = msgspec.json.decode((folder.path / "places.json").read_bytes(), type=Places)
    code = _with_commit(run.code, places, folder.files)
    code = _with_loaded(code, places, found.code, folder.files, [Path(each) for each in facts.get("sources", ())])
    known = reads.Known(code, None if places.root is None else Path(places.root), _tracked(places), Path(places.folder))
    use, seen = reads.compare(found, known, journal, run.data.declared, yard.datasets, yard.seen)
    finished = replace(
        run,
        name=journal.name or run.name,
        code=code,
        data=replace(use, watched=_watched(folder, found)),
        environment=environment,
        seeds=facts.get("seeds", {}),
        params=dict(journal.params),
        metrics=dict(journal.metrics),
        tags={**run.tags, **journal.tags},
        artifacts=journal.artifacts,
        versions=journal.versions,
        loaded=journal.loaded,
        snapshots=journal.snapshots,
        notes=(*journal.notes, *_notes(facts, found, code)),
    )
    if finished.seconds is None:
        finished = replace(finished, seconds=_last_word(folder, run))
    return finished, seen


def _main(folder: RunFolder) -> int | None:
    try:
        return msgspec.json.decode((folder.path / "main.json").read_bytes(), type=int)
    except OSError:
        return None


def _environment(facts: dict[str, Any]) -> Environment | None:
    if not facts:
        return None
    modules = tuple(name for name in facts["modules"] if name != "modelyard")
    other = OtherProcess(facts["python"], tuple(facts["path"]), modules, facts["threads"], facts["blas"])
    try:
        return lock_of(other)
    except (EnvironmentFailed, OSError):
        return None


def _with_commit(code: CodeState, places: Places, files: Path) -> CodeState:
    """With the files of the commit, so that the run can be repeated from the registry alone."""
    if places.root is None or code.commit is None:
        return code
    left_out = committed.keep(Path(places.root), code.commit, files / committed.ARCHIVE)
    if left_out is None:
        return code
    return replace(code, whole=True, left_out={**left_out, **code.left_out})


def _with_loaded(
    code: CodeState, places: Places, ran: Iterable[Path], files: Path, sources: Sequence[Path]
) -> CodeState:
    """With code that was run and is in no commit: ignored by git, outside of the repository, or where there is none."""
    tracked = _tracked(places)
    root = Path(places.root or places.folder)
    have = {*tracked, *code.untracked, *code.left_out}
    installed = _installed_in(sources)
    lacking = [
        path
        for path in ran
        if path.suffix == ".py" and path.is_file() and path not in installed
        if not (path.is_relative_to(root) and _name(path, root) in have)
    ]
    more = repository.loaded(root, lacking, sources)
    repository.write(more, files)
    return replace(
        code,
        loaded=more.state.loaded,
        left_out={**code.left_out, **more.state.left_out},
        place=str(root),
        sources=tuple(_name(source, root) for source in sources if source.is_relative_to(root)),
    )


def _installed_in(sources: Sequence[Path]) -> frozenset[Path]:
    """Files of distributions in folders of unusual names, as ``pip install --target`` makes: they are no code."""
    folders = [source for source in sources if any(source.glob("*.dist-info"))]
    found = (one for folder in folders for one in catalogue_of([str(folder)]).values() if not one.is_local)
    return frozenset(one.folder / file.path for one in found for file in one.files)


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root))


def _tracked(places: Places) -> frozenset[str]:
    """Files that the commit of the repository knows, whatever they are now."""
    if places.root is None:
        return frozenset()
    listed = run_git(Path(places.root), "ls-files", "-z") or b""
    return frozenset(name for name in listed.decode("utf-8", "surrogateescape").split("\0") if name)


def _watched(folder: RunFolder, found: reads.Opened) -> Any:
    if not found.begun:
        return "not watched"
    if not (folder.path / "process.json").exists():
        return "since the run began"
    first = msgspec.json.decode((folder.path / "process.json").read_bytes(), type=Process)
    is_seen = (folder.path / f"opened-{first.pid}.jsonl").exists()
    return "whole program" if is_seen else "only the Python programs that it started"


def _notes(facts: dict[str, Any], found: reads.Opened, code: CodeState) -> Iterable[str]:
    if not found.begun:
        yield "no Python program of the run could be watched: what it read and its environment are not known"
    elif not facts:
        yield "the program did not come to its own end: its environment and seeds are not known"
    if code.commit is None and code.loaded:
        yield "there is no commit: the files of code that were run are kept as they were at the end"


def _last_word(folder: RunFolder, run: Run) -> float | None:
    """Seconds to the last thing that was heard of a lost run."""
    times = [file.stat().st_mtime for file in folder.path.glob("*.jsonl")]
    times += [file.stat().st_mtime for file in folder.files.rglob("*") if file.is_file()]
    heard = max(times, default=None)
    return None if heard is None else max(0.0, heard - run.started_at.timestamp())


def _write_files(folder: RunFolder, run: Run, seen: tuple[Read, ...]) -> None:
    for name in ("stdout.txt", "stderr.txt"):
        _compress(folder.files / "output" / name, folder.files / "output" / f"{name}.gz")
    _compress(folder.path / "metrics.jsonl", folder.files / "metrics.jsonl.gz")
    if seen:
        listed = b"".join(msgspec.json.encode(read) + b"\n" for read in seen)
        (folder.files / "reads.jsonl.gz").write_bytes(gzip.compress(listed, mtime=0))
    if run.environment is not None:
        (folder.files / "environment.txt").write_text(requirements(run.environment))
    (folder.files / "run.json").write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=2) + b"\n")


def _compress(source: Path, target: Path) -> None:
    """What is empty is not kept."""
    if not source.exists():
        return
    if source.stat().st_size:
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as plain, target.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
            shutil.copyfileobj(plain, packed)
    if source.is_relative_to(target.parent):
        source.unlink()
