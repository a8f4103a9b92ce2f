"""How a run begins: everything that is known before the program does anything."""

from __future__ import annotations

import getpass
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from modelyard.domain.names import check_name
from modelyard.domain.run import DataUse, Run
from modelyard.home import Home
from modelyard.runs import machine, repository
from modelyard.runs.folder import RunFolder
from modelyard.runs.yard import Yard, opened


@dataclass(frozen=True, slots=True)
class Within:
    """Where and within which limits a program runs, in a process group of its own, rather than here and without any.

    `folder` is nobody's repository where the program is only repeated (`is_repeat`); else it is looked at as that of
    any run is. `environ` are all of its environment variables. It may take so many `seconds`, and `memory` of so many
    bytes, with all the processes that it starts; it runs with this much `nice`, and ends with the process that records.
    """

    folder: Path
    environ: Mapping[str, str]
    seconds: float | None = None
    memory: int | None = None
    nice: int = 0
    is_repeat: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user says of a run. Without `within` it is in the folder and environment of this process."""

    name: str
    command: Sequence[str]
    data: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    within: Within | None = None


def begin(home: Home, asked: Asked) -> RunFolder:
    """Make a run known and its folder ready.

    Raises:
        InvalidRequest: the name cannot be one.
        DatasetNotFound, VersionNotFound: there is no such version of data.
    """
    check_name(asked.name, "run")
    with opened(home) as yard:
        declared = declare(yard, asked.data)
        within = asked.within
        here = Path.cwd() if within is None else within.folder
        is_repeat = within is not None and within.is_repeat
        kept = repository.NOTHING if is_repeat else repository.look(here, besides=yard.home.path)
        now = datetime.now(UTC)
        run = Run(
            id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
            name=asked.name,
            started_at=now,
            by=_user(),
            command=repository.shown_command(asked.command),
            code=kept.state,
            machine=machine.this_machine(),
            process=machine.process(),
            settings=machine.settings(None if within is None else within.environ),
            data=DataUse(declared=declared),
            tags=dict(asked.tags),
            note=asked.note,
        )
        folder = RunFolder.make(yard.home, run)
        folder.put("places.json", Places(str(here), None if kept.root is None else str(kept.root)))
        repository.write(kept, folder.files)
        yard.runs.begin(run)
        return folder


@dataclass(frozen=True, slots=True)
class Places:
    """Where the run is on this machine: its working folder, and the root of its repository."""

    folder: str
    root: str | None


def declare(yard: Yard, data: Sequence[str]) -> tuple[str, ...]:
    """The versions of data that are meant, each with its number; raises as `begin`."""
    return tuple(dict.fromkeys(yard.datasets.version(ref).ref for ref in data))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
