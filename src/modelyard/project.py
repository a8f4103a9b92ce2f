"""The project file: ``modelyard.toml`` in a project's folder says how its versions are rolled out and trained again.

::

    [rollout]
    steps = ["shadow", "1%", "5%", "25%", "100%"]
    least = "5m"

    [retrain]
    on = ["alert", "labels"]
    command = ["python", "train.py"]

What the tables may hold is said by those who use them: `modelyard.rollout.policy` and `modelyard.retraining.plan`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from modelyard.errors import InvalidRequest

FILE = "modelyard.toml"

TABLES = ("rollout", "retrain")
"""What the file may hold."""

_T = TypeVar("_T", bound=msgspec.Struct)

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")


@dataclass(frozen=True, slots=True)
class Project:
    """A project's folder and what its file says: one table for each matter, empty where the file has none."""

    folder: Path
    rollout: Mapping[str, Any] = field(default_factory=dict)
    retrain: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """Where the file is."""
        return self.folder / FILE


def read(folder: str | Path) -> Project | None:
    """The project in that folder; None where it has no file.

    Raises:
        InvalidRequest: the file cannot be read, or has a table that means nothing.
    """
    file = Path(folder).expanduser().absolute() / FILE
    try:
        said = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidRequest(f"{file} cannot be read: {error}") from error
    if unknown := sorted(said.keys() - set(TABLES)):
        raise InvalidRequest(f"{file}: {', '.join(unknown)} means nothing; there are [{'], ['.join(TABLES)}]")
    if odd := next((name for name, table in said.items() if not isinstance(table, dict)), None):
        raise InvalidRequest(f"{file}: {odd} is no table; write [{odd}] and what belongs to it below")
    return Project(file.parent, **said)


def converted(table: Mapping[str, Any], kind: type[_T], where: str) -> _T:
    """A table of the file as the `msgspec` structure `kind`, strictly: each value has to be of its type.

    `where` says in errors what the table is. A structure made with ``forbid_unknown_fields=True`` refuses other keys.

    >>> class Limits(msgspec.Struct, forbid_unknown_fields=True):
    ...     memory: int = 0
    >>> converted({"memory": 5}, Limits, "[limits]").memory
    5
    >>> converted({"memori": 5}, Limits, "[limits]")
    Traceback (most recent call last):
    modelyard.errors.InvalidRequest: [limits]: Object contains unknown field `memori`; it may hold memory

    Raises:
        InvalidRequest: a key is not known, one is missing, or a value is of another type.
    """
    try:
        return msgspec.convert(table, kind, strict=True)
    except msgspec.ValidationError as error:
        known = ""
        if "unknown field" in str(error) and " - at " not in str(error):
            known = f"; it may hold {', '.join(each.encode_name for each in msgspec.structs.fields(kind))}"
        raise InvalidRequest(f"{where}: {error}{known}") from error


def seconds(text: str | float, where: str = "") -> float:
    """How long ``"5m"`` is; a number is in seconds already. Units: ms, s, m, h, d, w.

    >>> seconds("90s"), seconds("1.5h"), seconds(20)
    (90.0, 5400.0, 20.0)

    Raises:
        InvalidRequest: that is no length of time; `where` says in the message what it belongs to.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool) and text >= 0:
        return float(text)
    match = _DURATION.fullmatch(str(text).strip())
    if match is None:
        said = f"{where}: " if where else ""
        raise InvalidRequest(f"{said}{text!r} is no length of time; write a number and a unit, such as 30s, 5m, 2h, 7d")
    return float(match[1]) * _UNITS[match[2]]
