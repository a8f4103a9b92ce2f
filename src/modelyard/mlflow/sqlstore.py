"""MLflow's tracking database, read with SQL: the tables of every release since 1.0, as far as they are there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from modelyard.errors import Failed, InvalidRequest
from modelyard.mlflow.tracking import (
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

Rows = list[dict[str, Any]]


class DatabaseStore:
    """One tracking database, opened for reading only.

    Raises:
        InvalidRequest: the address cannot be used, or it is no database of MLflow.
        Failed: it cannot be read.
    """

    def __init__(self, url: str, *artifacts: Path) -> None:
        self._url = _readable(url)
        self._engine = _engine(self._url)
        self.troubles: list[str] = []
        file = self._url.database if self._url.get_backend_name() == "sqlite" else None
        here = [Path(file.removeprefix("file:").partition("?")[0]).parent] if file else []
        self._artifacts = Artifacts(*here, *artifacts)
        with self._reading() as connection:
            self._tables = set(inspect(connection).get_table_names())
        if not {"experiments", "runs"} <= self._tables:
            raise InvalidRequest(f"{_shown(self._url)} is no tracking database of MLflow: it has no runs")

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def experiments(self) -> tuple[str, ...]:
        """Names of the experiments that were not deleted."""
        with self._reading() as connection:
            return tuple(str(row["name"]) for row in self._experiments(connection))

    def runs(self, chosen: Chosen, besides: Sequence[str] = ()) -> Iterator[TrackedRun]:
        """See `TrackingStore`."""
        wanted = {*chosen.runs, *besides}
        with self._reading() as connection:
            names = {str(row["experiment_id"]): str(row["name"]) for row in self._experiments(connection)}
            listed = self._rows(connection, "runs", order="start_time")
        for row in listed:
            experiment = names.get(str(row["experiment_id"]))
            if experiment is None or (row.get("lifecycle_stage") or "active") != "active":
                continue
            takes = chosen.is_all or experiment in chosen.experiments or str(row["experiment_id"]) in chosen.experiments
            if takes or row["run_uuid"] in wanted:
                with self._reading() as connection:
                    yield self._run(connection, row, experiment)

    def versions(self) -> Iterator[RegisteredVersion]:
        """See `TrackingStore`."""
        with self._reading() as connection:
            models = {str(row["name"]): row for row in self._rows(connection, "registered_models")}
            aliases, tags = defaultdict[tuple[str, int], list[str]](list), defaultdict[str, dict[str, Any]](dict)
            for row in self._rows(connection, "registered_model_aliases"):
                aliases[row["name"], int(row["version"])].append(str(row["alias"]))
            for row in self._rows(connection, "registered_model_tags"):
                tags[row["name"]][row["key"]] = row["value"]
            of_version = defaultdict[tuple[str, int], dict[str, Any]](dict)
            for row in self._rows(connection, "model_version_tags"):
                of_version[row["name"], int(row["version"])][row["key"]] = row["value"]
            listed = self._rows(connection, "model_versions", order="name, version")
        for row in listed:
            name, number = str(row["name"]), int(row["version"])
            stage = str(row.get("current_stage") or "")
            if stage == "Deleted_Internal" or name not in models:
                continue
            yield RegisteredVersion(
                model=name,
                number=number,
                folder=self._source(row),
                run_id=str(row.get("run_id") or ""),
                stage="" if stage == "None" else stage,
                description=str(row.get("description") or ""),
                model_description=str(models[name].get("description") or ""),
                aliases=tuple(sorted(aliases[name, number])),
                tags=texts(of_version[name, number]),
                model_tags=texts(tags[name]),
                source=str(row.get("storage_location") or row.get("source") or ""),
            )

    def _experiments(self, connection: Connection) -> Rows:
        rows = self._rows(connection, "experiments")
        return [row for row in rows if (row.get("lifecycle_stage") or "active") == "active"]

    def _run(self, connection: Connection, row: Mapping[str, Any], experiment: str) -> TrackedRun:
        run_id = checked_id(row["run_uuid"])
        mine = {"run_uuid": run_id}
        tags = texts({one["key"]: one["value"] for one in self._rows(connection, "tags", mine)})
        artifacts = self._artifacts.place(str(row.get("artifact_uri") or ""))
        return TrackedRun(
            id=run_id,
            experiment=experiment,
            name=str(row.get("name") or tags.get("mlflow.runName") or ""),
            status=str(row.get("status") or "RUNNING"),
            started=int(row["start_time"] or 0),
            ended=None if row.get("end_time") is None else int(row["end_time"]),
            user=str(row.get("user_id") or tags.get("mlflow.user") or ""),
            source=str(tags.get("mlflow.source.name") or row.get("source_name") or ""),
            commit=str(tags.get("mlflow.source.git.commit") or row.get("source_version") or ""),
            params=texts({one["key"]: one["value"] for one in self._rows(connection, "params", mine)}),
            tags=tags,
            metrics=self._metrics(connection, mine),
            inputs=tuple(self._inputs(connection, run_id)),
            models=(*self._models(connection, run_id), *logged_below(artifacts)),
            artifacts=artifacts,
            unreached="" if artifacts is not None else str(row.get("artifact_uri") or ""),
        )

    def _metrics(self, connection: Connection, mine: Mapping[str, Any]) -> dict[str, tuple[Point, ...]]:
        found: dict[str, list[Point]] = {}
        for row in self._rows(connection, "metrics", mine, order="timestamp, step"):
            value = float("nan") if row.get("is_nan") else float(row["value"])
            found.setdefault(str(row["key"]), []).append(Point(int(row["timestamp"]), int(row.get("step") or 0), value))
        return {name: tuple(points) for name, points in found.items()}

    def _inputs(self, connection: Connection, run_id: str) -> Iterator[Input]:
        mine = {"destination_type": "RUN", "destination_id": run_id, "source_type": "DATASET"}
        for link in self._rows(connection, "inputs", mine):
            tags = {
                row["name"]: row["value"] for row in self._rows(connection, "input_tags", _only(link, "input_uuid"))
            }
            for row in self._rows(connection, "datasets", {"dataset_uuid": link["source_id"]}):
                context = str(tags.get("mlflow.data.context") or "")
                yield Input(str(row["name"]), str(row["digest"]), str(row.get("dataset_source_type") or ""), context)

    def _models(self, connection: Connection, run_id: str) -> Iterator[LoggedModel]:
        for row in self._rows(connection, "logged_models", {"source_run_id": run_id}):
            mine = {"model_id": row["model_id"]}
            params = {
                one["param_key"]: one["param_value"] for one in self._rows(connection, "logged_model_params", mine)
            }
            metrics = self._rows(connection, "logged_model_metrics", mine)
            values = {str(one["metric_name"]): float(one["metric_value"]) for one in metrics if one["metric_value"]}
            folder = self._artifacts.place(str(row["artifact_location"] or ""))
            yield LoggedModel(str(row["name"]), folder, str(row["model_id"]), texts(params), values)

    def _source(self, row: Mapping[str, Any]) -> Path | None:
        for uri in (row.get("storage_location"), row.get("source")):
            if uri and (found := self._artifacts.place(str(uri))):
                return found
        model_id = str(row.get("source") or "").removeprefix("models:/")
        with self._reading() as connection:
            for found_row in self._rows(connection, "logged_models", {"model_id": model_id}):
                return self._artifacts.place(str(found_row["artifact_location"] or ""))
        return None

    def _rows(
        self, connection: Connection, table: str, where: Mapping[str, Any] | None = None, order: str = ""
    ) -> Rows:
        """Rows of one of MLflow's tables; none where this release of it has no such table."""
        if table not in self._tables:
            return []
        conditions = " and ".join(f"{name} = :{name}" for name in where or {})
        query = f"select * from {table}"  # noqa: S608  # names are ours
        query += f" where {conditions}" if conditions else ""
        query += f" order by {order}" if order else ""
        return [dict(row) for row in connection.execute(text(query), dict(where or {})).mappings()]

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                if self._url.get_backend_name() == "postgresql":
                    connection.execute(text("set transaction read only"))
                yield connection
        except DBAPIError as error:
            said = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
            raise Failed(f"{_shown(self._url)} cannot be read: {said[0]}") from None
        except SQLAlchemyError as error:
            raise Failed(f"{_shown(self._url)} cannot be read: {type(error).__name__}") from None


def _only(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {name: row[name]}


def _readable(url: str) -> URL:
    """The address with the drivers that we have; an SQLite file that must be there is opened for reading only."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InvalidRequest(
            f"{url.partition('://')[0]}://… is no address of a database; write sqlite:///mlflow.db"
        ) from None
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg2"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != "sqlite":
        return parsed
    file = Path(parsed.database or "").expanduser().absolute()
    if not file.is_file():
        raise InvalidRequest(f"there is no file {file}")
    return parsed.set(database=str(file), query={})


def _engine(url: URL) -> Engine:
    try:
        engine = create_engine(url)
    except NoSuchModuleError:
        raise InvalidRequest(f"databases of the kind {url.drivername!r} are not known to SQLAlchemy here") from None
    except ModuleNotFoundError as error:
        raise InvalidRequest(f"{url.drivername} needs the package {error.name!r}; install it") from None
    if url.get_backend_name() == "sqlite":

        @event.listens_for(engine, "connect")
        def _connected(raw: Any, _record: object) -> None:
            raw.execute("PRAGMA query_only=ON")

    return engine


def _shown(url: URL) -> str:
    return url.set(username=None, password=None, query={}).render_as_string()
