"""A version of a Delta table as files: its data files as they are, and a log with that one version in it.

What comes out of a checkout is a Delta table itself. Its log says the same for the same data, whatever the history of
the table was, so that pinning a version twice gives one digest.
"""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import msgspec
import pyarrow as pa

from modelyard.datasets.scan import Found, Stamp
from modelyard.errors import Failed, InvalidRequest

LOG = "_delta_log/00000000000000000000.json"


def pinned(path: str | Path, version: int | None, folder: Path) -> tuple[list[Found], int]:
    """The files of a version of the table at `path`, and its number (the newest where `version` is None).

    The log is written below `folder`, which has to stay until the snapshot is taken.

    Raises:
        InvalidRequest: there is no such table or version; or it is of a kind that cannot
            be kept (not on a local disk, with deletion vectors).
        Failed: a file of that version has been removed since.
    """
    table = _opened(path, version)
    location = urlparse(table.table_uri)
    if location.scheme not in ("", "file"):
        raise InvalidRequest(f"{path}: only tables in local folders can be kept")
    protocol, metadata = table.protocol(), table.metadata()
    if "deletionVectors" in (protocol.reader_features or ()):
        raise InvalidRequest(f"{path}: tables with deletion vectors cannot be kept; rewrite it without them first")
    actions: list[dict[str, Any]] = pa.table(table.get_add_actions(flatten=False)).to_pylist()
    root = unquote(location.path)
    files = [_data_file(root, action["path"]) for action in sorted(actions, key=lambda each: str(each["path"]))]
    log = folder / LOG
    log.parent.mkdir(parents=True)
    log.write_bytes(_log(protocol, metadata, table.schema().to_json(), actions))
    files.append(Found(LOG.encode(), str(log), Stamp.of(log.stat())))
    return files, table.version()


def _opened(path: str | Path, version: int | None) -> Any:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        return DeltaTable(path, version=version)
    except DeltaError as error:
        what = "no Delta table" if version is None else f"no version {version} of a Delta table"
        raise InvalidRequest(f"{path}: there is {what} ({str(error).splitlines()[0]})") from error


def _data_file(root: str, encoded: str) -> Found:
    name = unquote(encoded)
    path = str(Path(root, name))
    if Path(name).is_absolute():
        raise InvalidRequest(f"{root}: its file {name} lies outside the table, as in a shallow clone; copy it first")
    try:
        return Found(os.fsencode(name), path, Stamp.of(os.stat(path)))  # noqa: PTH116
    except OSError as error:
        raise Failed(f"{path} of that version cannot be read ({error.strerror}); it may have been vacuumed") from error


def _log(protocol: Any, metadata: Any, schema: str, actions: list[dict[str, Any]]) -> bytes:
    versions: dict[str, Any] = {
        "minReaderVersion": protocol.min_reader_version,
        "minWriterVersion": protocol.min_writer_version,
    }
    for name, features in (("readerFeatures", protocol.reader_features), ("writerFeatures", protocol.writer_features)):
        if features is not None:
            versions[name] = sorted(features)
    about = {
        "id": metadata.id,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": schema,
        "partitionColumns": list(metadata.partition_columns),
        "configuration": dict(metadata.configuration),
    }
    lines: list[dict[str, Any]] = [{"protocol": versions}, {"metaData": about}]
    lines += [{"add": _add(action)} for action in sorted(actions, key=lambda each: str(each["path"]))]
    return b"".join(msgspec.json.encode(line, order="sorted") + b"\n" for line in lines)


def _add(action: dict[str, Any]) -> dict[str, Any]:
    parts = action.get("partition") or {}
    return {
        "path": action["path"],
        "partitionValues": {name: partition_text(value) for name, value in parts.items()},
        "size": action["size_bytes"],
        "modificationTime": 0,
        "dataChange": True,
    }


def partition_text(value: Any) -> str | None:
    """A partition's value as the Delta protocol writes it.

    >>> partition_text(True), partition_text(dt.datetime(2013, 1, 1, 5)), partition_text(None)
    ('true', '2013-01-01 05:00:00.000000', None)
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dt.datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")
    return str(value)
