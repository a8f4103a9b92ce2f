"""The home folder: where one installation of Modelyard keeps everything it writes, or says where a team does."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """The folder `path` and the names of the things in it.

    `database_url` and `objects_url` say where metadata and content are that are not in the folder. They may hold a
    password, so they are not shown.

    >>> home = Home(Path("/srv/yard"))
    >>> str(home.database), home.records.name
    ('/srv/yard/registry.db', 'records')
    """

    path: Path
    database_url: str | None = field(default=None, repr=False)
    objects_url: str | None = field(default=None, repr=False)

    @classmethod
    def locate(cls, path: str | Path | Home | None = None) -> Home:
        """The home at `path`; without one, at ``MODELYARD_HOME``, else at ``~/.modelyard``. Nothing is created.

        Unless `path` is a home already, metadata and content are where ``MODELYARD_DATABASE_URL`` and
        ``MODELYARD_OBJECTS_URL`` say, if they are set.
        """
        if isinstance(path, Home):
            return path
        chosen = path or os.environ.get("MODELYARD_HOME") or Path.home() / ".modelyard"
        return cls(
            Path(chosen).expanduser().absolute(),
            os.environ.get("MODELYARD_DATABASE_URL") or None,
            os.environ.get("MODELYARD_OBJECTS_URL") or None,
        )

    def create(self) -> Home:
        """Make the folders that do not exist yet, readable by their owner only: records hold people's data."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.bundles, self.datasets, self.environments, self.records, self.runs, self.run, self.cache):
            folder.mkdir(exist_ok=True)
        return self

    @property
    def database(self) -> Path | str:
        """Versions, aliases, reports, runs and deployments: a SQLite file, or the URL of a team's database."""
        return self.database_url or self.path / "registry.db"

    @property
    def bundles(self) -> Path:
        """One folder a bundle, named by the hex digits of its digest, where there is no object store."""
        return self.path / "bundles"

    @property
    def datasets(self) -> Path:
        """Packs: the content of all dataset versions, where there is no object store."""
        return self.path / "datasets"

    @property
    def environments(self) -> Path:
        """Rebuilt Python environments, named by what is in them."""
        return self.path / "environments"

    @property
    def wheels(self) -> Path:
        """Wheels that were brought here to rebuild environments from, where no index has them."""
        return self.path / "wheels"

    @property
    def records(self) -> Path:
        """The prediction log and the labels."""
        return self.path / "records"

    @property
    def runs(self) -> Path:
        """One folder a run that is under way, named by its id."""
        return self.path / "runs"

    @property
    def run(self) -> Path:
        """What running processes tell each other: addresses, locks, the last desired state."""
        return self.path / "run"

    @property
    def cache(self) -> Path:
        """What can be computed again."""
        return self.path / "cache"
