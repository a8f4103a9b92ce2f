"""Other homes by name: a folder, or the database and the object store of a team."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from modelyard.domain.names import check_name
from modelyard.errors import Failed, InvalidRequest, NameTaken, NotFound
from modelyard.home import Home

_FILE = "remotes.json"


class RemoteNotFound(NotFound):
    """No remote of that name."""

    def __init__(self, name: str, there_are: list[str]) -> None:
        known = f"there are: {', '.join(there_are)}" if there_are else "there is none yet"
        super().__init__(f"no remote {name!r} ({known}): modelyard remote add {name} --home DIR, or give a path")


class Remote(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where another home is. Addresses may name an environment variable instead, such as ``env:TEAM_DATABASE``."""

    home: str | None = None
    database: str | None = None
    objects: str | None = None

    def __post_init__(self) -> None:
        is_team = self.database is not None and self.objects is not None
        if (self.home is not None) == is_team or (self.database is None) != (self.objects is None):
            raise InvalidRequest("a remote is the folder of a home, or a database and an object store")

    def place(self, name: str, here: Home) -> Home:
        """The home, opened from this one; copies of what is read are kept in this one's cache.

        Raises:
            InvalidRequest: an environment variable that it names is not set.
            Failed: the folder is not there.
        """
        if self.home is not None:
            return folder(Path(self.home))
        return Home(here.cache / "remotes" / name, _value(self.database or ""), _value(self.objects or ""))


def folder(path: Path) -> Home:
    """The home in that folder, whatever the settings of this process are.

    Raises:
        Failed: it is not there.
    """
    place = path.expanduser().absolute()
    if not place.is_dir():
        raise Failed(f"there is no folder {place}; a new home is an empty folder: mkdir {place}")
    return Home(place)


class Remotes:
    """The remotes that a home knows, in a file that only its owner can read."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def all(self) -> Mapping[str, Remote]:
        """By name.

        Raises:
            Failed: the file cannot be read.
        """
        try:
            raw = self._file.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            return msgspec.json.decode(raw, type=dict[str, Remote])
        except msgspec.MsgspecError as error:
            raise Failed(f"{self._file} cannot be read: {error}") from error

    def add(self, name: str, remote: Remote) -> None:
        """Keep a remote under a name.

        Raises:
            NameTaken: there is one of that name.
            InvalidRequest: it cannot be one.
        """
        check_name(name, "remote")
        known = dict(self.all())
        if name in known:
            raise NameTaken(f"there is a remote {name} already: modelyard remote remove {name}")
        self._write(known | {name: remote})

    def remove(self, name: str) -> None:
        """Forget a remote; nothing happens to what is there.

        Raises:
            RemoteNotFound: there is none of that name.
        """
        known = dict(self.all())
        if known.pop(name, None) is None:
            raise RemoteNotFound(name, sorted(known))
        self._write(known)

    def find(self, named: str) -> tuple[str, Home]:
        """What others call it and where it is: a remote by its name, or the path of a home's folder.

        Raises:
            RemoteNotFound: there is none.
            Failed, InvalidRequest: see `Remote.place`.
        """
        known = self.all()
        if named in known:
            return named, known[named].place(named, self._home)
        if "/" in named or Path(named).is_dir():
            place = folder(Path(named))
            return str(place.path), place
        raise RemoteNotFound(named, sorted(known))

    @property
    def _file(self) -> Path:
        return self._home.path / _FILE

    def _write(self, known: Mapping[str, Remote]) -> None:
        self._home.create()
        part = self._file.with_suffix(".part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(msgspec.json.format(msgspec.json.encode(known, order="sorted"), indent=2) + b"\n")
        part.replace(self._file)


def _value(address: str) -> str:
    if not address.startswith("env:"):
        return address
    name = address.removeprefix("env:")
    found = os.environ.get(name)
    if not found:
        raise InvalidRequest(f"the environment variable {name}, which the remote names, is not set")
    return found
