"""Runs: what is kept of one execution of a training program."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from modelyard.domain.environment import Environment

State: TypeAlias = Literal["running", "finished", "failed", "killed", "lost"]
"""``failed``: ended with an error; ``killed``: by a signal; ``lost``: the process that recorded it died."""

Value: TypeAlias = str | int | float | bool | None
"""A parameter."""

ReadKind: TypeAlias = Literal["dataset", "code", "changed", "other"]
"""What a file that was read is: of a dataset version, kept with the code, changed since, or none of these."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `exit_code` is None without a process of its own; `error` is the last line that it said."""

    state: State
    exit_code: int | None = None
    signal: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class CodeState:
    """Where the code was when the run began.

    `folder` is the working folder below the root of the repository, ``.`` for the root itself. `changed` differ from
    the commit and are kept as a patch, `untracked` are in no commit and kept as files; `left_out` says why others are
    not kept. Without a repository, `loaded` are the files of code that are kept instead. `place` is the root of the
    repository, or the working folder, on the machine of the run; `sources` are the folders below it that modules were
    imported from; `whole` tells that the files of the commit are kept with the run.
    """

    commit: str | None = None
    branch: str | None = None
    remote: str | None = None
    folder: str = "."
    changed: tuple[str, ...] = ()
    untracked: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    place: str = ""
    sources: tuple[str, ...] = ()
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the run was: `features` are those of the processor that numerical kernels choose by."""

    host: str
    platform: str
    processor: str
    cores: int
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Process:
    """A process, so that another that gets the same number later is not taken for it."""

    pid: int
    started: int
    boot: str
    host: str


@dataclass(frozen=True, slots=True)
class Read:
    """One file that the run opened for reading. `ref` and `name` say which file of which dataset version it is."""

    path: str
    kind: ReadKind
    size: int
    digest: str = ""
    ref: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class DataUse:
    """What a run read, as far as it was seen.

    `declared` were named by the user, `versions` are those that files were read of. `others` are files (the first of
    them) that are of no version and not kept with the code. `watched` tells since when reads were seen; `unseen` lists
    what may have read besides.
    """

    declared: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    other_files: int = 0
    watched: Literal[
        "whole program", "only the Python programs that it started", "since the run began", "not watched"
    ] = "not watched"
    unseen: tuple[str, ...] = ()

    @property
    def only_versions(self) -> bool:
        """Whether the run was seen from its start, and read data from dataset versions alone."""
        return self.watched == "whole program" and not self.other_files and not self.unseen


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric over the steps of a run. `last` is the value of the last call."""

    last: float
    least: float
    most: float
    count: int
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """The record of one run. Its files (patch, artefacts, output, series of metrics) are stored beside it.

    `versions` of models were packed within it and `loaded` ones used; `snapshots` are versions of data taken within it.
    """

    id: str
    name: str
    started_at: datetime
    by: str
    command: tuple[str, ...]
    code: CodeState
    machine: Machine
    process: Process
    settings: dict[str, str]
    data: DataUse = DataUse()
    outcome: Outcome = Outcome("running")
    seconds: float | None = None
    environment: Environment | None = None
    seeds: dict[str, str] = field(default_factory=dict)
    params: dict[str, Value] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    note: str = ""
    artifacts: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
