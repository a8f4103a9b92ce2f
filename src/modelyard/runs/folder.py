"""The folder of a run that is under way: every fact goes there at once, and outlives the process that told it.

::

    begun.json            the run as it began
    journal.jsonl         parameters, tags, artefacts, versions, one line each
    metrics.jsonl         one line a call
    opened-<pid>.jsonl    what was opened for reading (runs/inside/watching.py)
    facts-<pid>.json      what a process was that came to its end
    outcome.json          how it ended
    files/                what is kept: code/, artifacts/, output/
    data/                 dataset versions checked out for the run

Lines are appended in one write each, so that several processes may tell of one run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from modelyard.domain.run import Metric, Outcome, Run
from modelyard.home import Home

VARIABLE = "MODELYARD_RUN"
"""The environment variable that names the folder to the processes of a run."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One such folder, in the home that its run belongs to: `belongs_to`, or what the environment says of its place."""

    path: Path
    belongs_to: Home | None = field(default=None, compare=False)

    @classmethod
    def make(cls, home: Home, run: Run) -> RunFolder:
        """The folder of a run that begins now."""
        folder = cls.of(home, run.id)
        for part in ("files", "data"):
            (folder.path / part).mkdir(parents=True, exist_ok=True)
        folder.put("begun.json", run)
        return folder

    @classmethod
    def of(cls, home: Home, run_id: str) -> RunFolder:
        """Where the folder of that run is, or was."""
        return cls(home.runs / run_id, home)

    @classmethod
    def surrounding(cls) -> RunFolder | None:
        """The folder of the run that this process was started in; None outside of one."""
        named = os.environ.get(VARIABLE)
        return cls(Path(named)) if named and Path(named, "begun.json").exists() else None

    @property
    def home(self) -> Home:
        """The home that the run is recorded in."""
        return self.belongs_to or Home.locate(self.path.parents[1])

    @property
    def files(self) -> Path:
        """What will be kept of the run."""
        return self.path / "files"

    def put(self, name: str, value: Any) -> None:
        """Write one of the documents, whole or not at all."""
        part = self.path / f"{name}.part"
        part.write_bytes(msgspec.json.encode(value))
        part.replace(self.path / name)

    def begun(self) -> Run:
        """The run as it began."""
        return msgspec.json.decode((self.path / "begun.json").read_bytes(), type=Run)

    def outcome(self) -> tuple[Outcome, float | None] | None:
        """How it ended and after how many seconds, if that is known."""
        try:
            raw = (self.path / "outcome.json").read_bytes()
        except OSError:
            return None
        return msgspec.json.decode(raw, type=tuple[Outcome, float | None])

    def tell(self, **entry: Any) -> None:
        """Append to the journal."""
        append(self.path / "journal.jsonl", entry)

    def journal(self) -> Journal:
        """What the journal and the metrics say."""
        return Journal.read(self)

    def opened(self) -> Iterator[dict[str, Any]]:
        """What all processes noted, process by process."""
        for file in sorted(self.path.glob("opened-*.jsonl")):
            yield from lines(file)

    def facts(self, pid: int | None = None) -> dict[str, Any]:
        """What the process of that number said of itself at its end; without it, any process; {} where none did."""
        files = sorted(self.path.glob("facts-*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
        chosen = [file for file in files if file.name == f"facts-{pid}.json"] or files[:1]
        found: dict[str, Any] = json.loads(chosen[0].read_bytes()) if chosen else {}
        return found


@dataclass(frozen=True, slots=True)
class Journal:
    """What was told of a run while it ran."""

    name: str | None
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    artifacts: tuple[str, ...]
    versions: tuple[str, ...]
    loaded: tuple[str, ...]
    snapshots: tuple[str, ...]
    checkouts: tuple[str, ...]
    declared: tuple[str, ...]
    notes: tuple[str, ...]
    metrics: Mapping[str, Metric]

    @classmethod
    def read(cls, folder: RunFolder) -> Journal:
        """The journal of a run; a last line that a killed process left half is passed over."""
        entries = list(lines(folder.path / "journal.jsonl"))

        def told(kind: str) -> tuple[str, ...]:
            return tuple(dict.fromkeys(str(entry[kind]) for entry in entries if kind in entry))

        params: dict[str, Any] = {}
        tags: dict[str, str] = {}
        for entry in entries:
            params |= entry.get("params", {})
            tags |= entry.get("tags", {})
        return cls(
            name=next(iter(told("name")), None),
            params=params,
            tags=tags,
            artifacts=told("artifact"),
            versions=told("version"),
            loaded=told("loaded"),
            snapshots=told("snapshot"),
            checkouts=told("checkout"),
            declared=told("declared"),
            notes=told("note"),
            metrics=summaries(folder.path / "metrics.jsonl"),
        )


def summaries(file: Path) -> dict[str, Metric]:
    """Of every metric in the file: last, least, most, how often, and the last step."""
    found: dict[str, Metric] = {}
    for line in lines(file):
        for name, value in line["values"].items():
            found[name] = _with(found.get(name), value, line.get("step"))
    return found


def _with(known: Metric | None, value: float, step: int | None) -> Metric:
    if known is None:
        return Metric(value, value, value, 1, step)
    least = value if known.least != known.least else min(known.least, value)  # a first value that was no number
    most = value if known.most != known.most else max(known.most, value)
    return replace(known, last=value, least=least, most=most, count=known.count + 1, step=step)


def append(file: Path, entry: Mapping[str, Any]) -> None:
    """One line in one write."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, json.dumps(entry).encode() + b"\n")
    finally:
        os.close(descriptor)


def lines(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of such a file, those that are whole; none where there is no file."""
    try:
        raw = file.read_bytes()
    except OSError:
        return
    for line in raw.split(b"\n"):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry
