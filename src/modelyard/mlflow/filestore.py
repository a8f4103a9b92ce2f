"""MLflow's tracking folder (``mlruns``): files read as they lie."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelyard.errors import BundleRefused, InvalidRequest
from modelyard.mlflow.documents import text_of, yaml_of
from modelyard.mlflow.tracking import (
    STATUSES,
    Artifacts,
    Chosen,
    Input,
    LoggedModel,
    Point,
    RegisteredVersion,
    TrackedRun,
    checked_id,
    logged_below,
    texts,
)

META = "meta.yaml"
_LARGEST_METRIC = 2**30


def is_store(folder: Path) -> bool:
    """Whether a folder is one: experiments lie in it."""
    return any(file.is_file() for file in folder.glob(f"*/{META}"))


class FileStore:
    """One tracking folder. Runs that were deleted, and what cannot be read as MLflow writes it, are passed over.

    `troubles` tells what was passed over, and why.
    """

    def __init__(self, folder: Path, *artifacts: Path) -> None:
        self._folder = folder
        self._artifacts = Artifacts(folder, *artifacts)
        self.troubles: list[str] = []

    def close(self) -> None:
        """Nothing is held."""

    def experiments(self) -> tuple[str, ...]:
        """Names of the experiments that were not deleted."""
        return tuple(name for _, name in self._experiments())

    def runs(self, chosen: Chosen, besides: Sequence[str] = ()) -> Iterator[TrackedRun]:
        """See `TrackingStore`."""
        wanted = {*chosen.runs, *besides}
        found: list[TrackedRun] = []
        for place, experiment in self._experiments():
            takes_all = chosen.is_all or experiment in chosen.experiments or place.name in chosen.experiments
            for folder in _folders(place):
                if folder.name in wanted or takes_all:
                    found += self._tried(folder, place, experiment)
        yield from sorted(found, key=lambda run: run.started)

    def versions(self) -> Iterator[RegisteredVersion]:
        """See `TrackingStore`."""
        for place in _folders(self._folder / "models"):
            if (place / META).is_file():
                try:
                    yield from self._versions_of(place)
                except (BundleRefused, KeyError, TypeError, ValueError) as error:
                    self.troubles.append(f"registered model {place.name} cannot be read: {error}")

    def _experiments(self) -> Iterator[tuple[Path, str]]:
        for place in _folders(self._folder):
            if not (place / META).is_file() or place.name in ("models", ".trash"):
                continue
            document = yaml_of(place / META)
            if "experiment_id" in document and document.get("lifecycle_stage", "active") == "active":
                yield place, str(document.get("name") or place.name)

    def _tried(self, folder: Path, place: Path, experiment: str) -> list[TrackedRun]:
        if not (folder / META).is_file() or folder.name in ("models", "datasets", "tags", "traces"):
            return []
        try:
            run = self._run(folder, place, experiment)
        except (BundleRefused, KeyError, TypeError, ValueError, OSError) as error:
            self.troubles.append(f"run {folder.name} cannot be read: {error}")
            return []
        return [] if run is None else [run]

    def _run(self, folder: Path, place: Path, experiment: str) -> TrackedRun | None:
        meta = yaml_of(folder / META)
        if meta.get("lifecycle_stage", "active") != "active":
            return None
        tags = _values(folder / "tags")
        run_id = checked_id(meta.get("run_id") or meta.get("run_uuid"))
        uri = str(meta.get("artifact_uri") or "")
        artifacts = self._artifacts.place(uri, folder / "artifacts")
        status = meta.get("status")
        return TrackedRun(
            id=run_id,
            experiment=experiment,
            name=str(meta.get("run_name") or tags.get("mlflow.runName") or ""),
            status=STATUSES.get(status, "RUNNING") if isinstance(status, int) else str(status),
            started=int(meta["start_time"]),
            ended=None if meta.get("end_time") is None else int(meta["end_time"]),
            user=str(meta.get("user_id") or tags.get("mlflow.user") or ""),
            source=str(tags.get("mlflow.source.name") or meta.get("source_name") or ""),
            commit=str(tags.get("mlflow.source.git.commit") or meta.get("source_version") or ""),
            params=_values(folder / "params"),
            tags=tags,
            metrics={name: _points(file) for name, file in _named_files(folder / "metrics")},
            inputs=tuple(_inputs(folder / "inputs", place / "datasets")),
            models=(*self._models(place, run_id), *logged_below(artifacts)),
            artifacts=artifacts,
            unreached="" if artifacts is not None else uri,
        )

    def _models(self, place: Path, run_id: str) -> Iterator[LoggedModel]:
        for folder in _folders(place / "models"):
            if not (folder / META).is_file():
                continue
            meta = yaml_of(folder / META)
            if meta.get("source_run_id") == run_id:
                where = self._artifacts.place(str(meta.get("artifact_location") or ""), folder / "artifacts")
                metrics = {name: _points(file)[-1].value for name, file in _named_files(folder / "metrics")}
                params = _values(folder / "params")
                yield LoggedModel(str(meta.get("name") or folder.name), where, folder.name, params, metrics)

    def _versions_of(self, place: Path) -> Iterator[RegisteredVersion]:
        model = yaml_of(place / META)
        aliases = _aliases(model, place)
        name = str(model.get("name") or place.name)
        folders = [one for one in _folders(place) if one.name.startswith("version-") and (one / META).is_file()]
        found = [self._version(folder, name, model, aliases) for folder in folders]
        yield from sorted((one for one in found if one is not None), key=lambda one: one.number)

    def _version(
        self, folder: Path, name: str, model: Mapping[str, Any], aliases: Mapping[str, str]
    ) -> RegisteredVersion | None:
        meta = yaml_of(folder / META)
        stage = str(meta.get("current_stage") or "")
        if stage == "Deleted_Internal":
            return None
        number = int(meta["version"])
        return RegisteredVersion(
            model=name,
            number=number,
            folder=self._source(meta),
            run_id=str(meta.get("run_id") or ""),
            stage="" if stage == "None" else stage,
            description=str(meta.get("description") or ""),
            model_description=str(model.get("description") or ""),
            aliases=tuple(sorted(alias for alias, of in aliases.items() if of == str(number))),
            tags=_values(folder / "tags"),
            model_tags=_values(folder.parent / "tags"),
            source=str(meta.get("storage_location") or meta.get("source") or ""),
        )

    def _source(self, meta: Mapping[str, Any]) -> Path | None:
        """Where the files of a registered version lie, also after the folder was moved."""
        fallbacks = []
        if model_id := meta.get("model_id"):
            fallbacks += [place / "models" / checked_id(model_id) / "artifacts" for place, _ in self._experiments()]
        source = str(meta.get("source") or "")
        if run_id := meta.get("run_id"):
            below = source.partition("/artifacts/")[2]
            if below and ".." not in Path(below).parts:
                places = [place / checked_id(run_id) for place, _ in self._experiments()]
                fallbacks += [place / "artifacts" / below for place in places]
        for uri in (meta.get("storage_location"), source):
            if uri and (found := self._artifacts.place(str(uri))):
                return found
        return self._artifacts.place("", *fallbacks)


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _named_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Files by their names below the folder, which may have slashes in them."""
    for path, _, names in os.walk(folder, followlinks=False):
        for name in sorted(names):
            file = Path(path, name)
            if file.is_file() and not file.is_symlink():
                yield str(file.relative_to(folder)), file


def _values(folder: Path) -> dict[str, str]:
    return texts({name: text_of(file) for name, file in _named_files(folder)})


def _points(file: Path) -> tuple[Point, ...]:
    """Lines of time, value and step; older releases write no step."""
    if file.stat().st_size > _LARGEST_METRIC:
        raise BundleRefused(f"{file} has more than {_LARGEST_METRIC} bytes")
    with file.open(encoding="utf-8") as lines:
        # A value is written again when it is linked with a model.
        parts = [line.split() for line in dict.fromkeys(lines) if line.strip()]
    try:
        return tuple(Point(int(line[0]), int(line[2]) if len(line) > 2 else 0, float(line[1])) for line in parts)
    except (ValueError, IndexError):
        raise BundleRefused(f"{file} is no metric as MLflow writes one") from None


def _inputs(folder: Path, datasets: Path) -> Iterator[Input]:
    for place in _folders(folder):
        link = yaml_of(place / META)
        if link.get("source_type") != "DATASET":
            continue
        file = datasets / checked_id(link.get("source_id")) / META
        if file.is_file():
            meta, tags = yaml_of(file), link.get("tags") or {}
            context = str(tags.get("mlflow.data.context") or "") if isinstance(tags, dict) else ""
            yield Input(str(meta.get("name")), str(meta.get("digest")), str(meta.get("source_type") or ""), context)


def _aliases(model: Mapping[str, Any], place: Path) -> dict[str, str]:
    listed = model.get("aliases")
    named = {str(alias): str(number) for alias, number in listed.items()} if isinstance(listed, dict) else {}
    return {**named, **{alias: text.strip() for alias, text in _values(place / "aliases").items()}}


def open_folder(folder: Path, *artifacts: Path) -> FileStore:
    """The tracking folder at `folder`, or the ``mlruns`` in it.

    Raises:
        InvalidRequest: it is none.
    """
    for place in (folder, folder / "mlruns"):
        if place.is_dir() and is_store(place):
            return FileStore(place, *artifacts)
    raise InvalidRequest(f"{folder} is neither an MLflow model directory (MLmodel) nor a tracking folder (mlruns)")
