"""What MLflow keeps of experiments: runs and registered models, as plain facts, however they are stored."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from modelyard.errors import BundleRefused

STATUSES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
"""The numbers under which the file store keeps how a run is."""

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,49}")
_KEPT_LENGTH = 8_000


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a metric; `at` in milliseconds since 1970."""

    at: int
    step: int
    value: float


@dataclass(frozen=True, slots=True)
class Input:
    """A dataset that was logged as an input: MLflow keeps its digest and where it came from, not its content."""

    name: str
    digest: str
    source_type: str = ""
    context: str = ""


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A model that a run logged. `folder` is None where its files cannot be reached."""

    name: str
    folder: Path | None
    id: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run as MLflow knows it; times in milliseconds since 1970. `artifacts` is None where they cannot be reached."""

    id: str
    experiment: str
    name: str
    status: str
    started: int
    ended: int | None
    user: str
    source: str
    commit: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, Sequence[Point]]
    inputs: tuple[Input, ...] = ()
    models: tuple[LoggedModel, ...] = ()
    artifacts: Path | None = None
    unreached: str = ""
    """Where the artefacts are said to be, if they cannot be reached."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended, as far as MLflow knows."""
        return self.status in ("FINISHED", "FAILED", "KILLED")


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version in MLflow's model registry."""

    model: str
    number: int
    folder: Path | None
    run_id: str = ""
    stage: str = ""
    description: str = ""
    model_description: str = ""
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    model_tags: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    @property
    def ref(self) -> str:
        """How MLflow writes it: ``churn/3``."""
        return f"{self.model}/{self.number}"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is asked for: everything, or what one of these names. A model is ``NAME`` or ``NAME/VERSION``."""

    experiments: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    @property
    def is_all(self) -> bool:
        """Whether nothing was named."""
        return not (self.experiments or self.runs or self.models)

    def takes_version(self, version: RegisteredVersion, runs: Sequence[str]) -> bool:
        """Whether a registered version is asked for, by itself or with one of the `runs` that are taken."""
        named = version.model in self.models or version.ref in self.models
        return self.is_all or named or (bool(version.run_id) and version.run_id in runs)


class TrackingStore(Protocol):
    """A tracking folder or database, opened for reading."""

    def runs(self, chosen: Chosen, besides: Sequence[str] = ()) -> Iterator[TrackedRun]:
        """Runs that were not deleted and are asked for, and those with the ids `besides`, oldest first."""
        ...

    def versions(self) -> Iterator[RegisteredVersion]:
        """All registered versions, each model's in order."""
        ...

    def experiments(self) -> tuple[str, ...]:
        """Names of the experiments that were not deleted."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Artifacts:
    """Where the files of a tracking store may be read: below certain folders of this machine, and nowhere else.

    A foreign store names any address it likes; one outside of these folders is not read, only told.
    """

    def __init__(self, *roots: Path) -> None:
        self._roots = [root.resolve() for root in roots]

    def place(self, uri: str, *fallbacks: Path) -> Path | None:
        """The folder that an address means, or the first of `fallbacks` that is there; None if it cannot be reached."""
        candidates = [*self._meant(uri), *fallbacks]
        return next((path for path in candidates if path.is_dir() and self._may_read(path)), None)

    def _may_read(self, path: Path) -> bool:
        resolved = path.resolve()
        return any(resolved.is_relative_to(root) for root in self._roots)

    def _meant(self, uri: str) -> Iterator[Path]:
        parts = urlsplit(uri)
        if parts.scheme in ("", "file") and parts.netloc in ("", "localhost"):
            path = unquote(parts.path)
            if path.startswith("/"):
                yield Path(path)
            elif path:
                yield from (root / path for root in self._roots)
        elif parts.scheme == "mlflow-artifacts":
            below = unquote(parts.path).strip("/")
            yield from (root / below for root in self._roots if below and ".." not in Path(below).parts)


def logged_below(artifacts: Path | None) -> Iterator[LoggedModel]:
    """Models among the artefacts of a run, as MLflow 2 keeps them."""
    if artifacts is None:
        return
    for pattern in ("*/MLmodel", "*/*/MLmodel"):
        for file in sorted(artifacts.glob(pattern)):
            if file.is_file() and not file.is_symlink() and not file.parent.is_symlink():
                yield LoggedModel(file.parent.name, file.parent)


def checked_id(text: Any) -> str:
    """An id that is safe in names.

    Raises:
        BundleRefused: it is none that MLflow makes.
    """
    if not isinstance(text, str) or not ID.fullmatch(text):
        raise BundleRefused(f"{str(text)[:80]!r} is no id of a run that MLflow makes")
    return text


def texts(pairs: Mapping[Any, Any]) -> dict[str, str]:
    """Names and values as texts of bounded length; what has no value is left out."""
    return {str(name)[:250]: str(value)[:_KEPT_LENGTH] for name, value in pairs.items() if value is not None}
