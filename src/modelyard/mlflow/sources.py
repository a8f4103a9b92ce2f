"""What a user may name as a source: a model directory, a tracking folder, the address of a tracking database."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from modelyard.errors import InvalidRequest
from modelyard.mlflow import mlmodel
from modelyard.mlflow.tracking import TrackingStore

_DATABASE_ENDINGS = (".db", ".sqlite", ".sqlite3")


def open_source(source: str, *, is_selected: bool = False, artifacts: Path | None = None) -> Path | TrackingStore:
    """The model directory that `source` is, or the tracking folder or database.

    Args:
        source: A path, ``file:///…``, ``sqlite:///…`` or ``postgresql://…``.
        is_selected: Experiments, runs or models were chosen, so that it cannot be a model directory.
        artifacts: A folder in which artefacts may lie besides.

    Raises:
        InvalidRequest: it is none of these.
        Failed: the database cannot be read.
    """
    parts = urlsplit(source)
    if parts.scheme in ("http", "https", "databricks", "s3", "gs", "dbfs", "runs", "models", "mlflow-artifacts"):
        raise InvalidRequest(
            f"{parts.scheme}: sources are not read over a network; name the tracking server's database "
            "(postgresql://…) with --artifacts DIR, or a folder that was downloaded from it"
        )
    besides = [] if artifacts is None else [artifacts]
    if "://" in source and parts.scheme != "file":
        return _database(source, besides)
    path = Path(unquote(parts.path) if parts.scheme == "file" else source).expanduser()
    if path.is_file() and path.name.endswith(_DATABASE_ENDINGS):
        return _database(f"sqlite:///{path.absolute()}", besides)
    if not path.exists():
        raise InvalidRequest(f"there is no file or folder {path}")
    return _folder(path, besides, is_selected)


def _database(url: str, besides: list[Path]) -> TrackingStore:
    from modelyard.mlflow.sqlstore import DatabaseStore

    return DatabaseStore(url, *besides)


def _folder(path: Path, besides: list[Path], is_selected: bool) -> Path | TrackingStore:
    from modelyard.mlflow.filestore import is_store, open_folder

    is_model = path.name == mlmodel.MLMODEL or (path / mlmodel.MLMODEL).is_file()
    if not is_model and path.is_dir() and (is_selected or is_store(path) or is_store(path / "mlruns")):
        return open_folder(path, *besides)
    return mlmodel.find(path)
