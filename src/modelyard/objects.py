"""Objects of a team: what ``MODELYARD_OBJECTS_URL`` names, in S3, Google Cloud Storage or Azure.

Endpoint, region and credentials come from the environment variables that obstore knows, such as ``AWS_ENDPOINT_URL``,
``AWS_ACCESS_KEY_ID`` and ``AWS_ALLOW_HTTP``, and are in no message.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from modelyard.errors import DataDamaged, Failed, InvalidRequest, Unavailable

if TYPE_CHECKING:
    from obstore import Bytes
    from obstore.store import ObjectStore

KINDS = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl")
"""Schemes of URLs of object stores; ``file`` means a folder."""

_PIECE = 8 * 2**20
_PIECES_AT_ONCE = 8
_CLIENT = {"connect_timeout": "5s", "timeout": "120s"}
_CLIENT_SETTINGS = (
    "allow_http",
    "allow_invalid_certificates",
    "connect_timeout",
    "http1_only",
    "http2_only",
    "pool_idle_timeout",
    "pool_max_idle_per_host",
    "proxy_ca_certificate",
    "proxy_excludes",
    "proxy_url",
    "timeout",
    "user_agent",
)
_RETRIES = 7
_SECONDS = 20
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "specified bucket does not exist")


@dataclass(frozen=True, slots=True)
class Stored:
    """Something that a store keeps: its name, its size in bytes, and when it was last put there."""

    name: str
    bytes: int
    at: datetime

    def age(self) -> timedelta:
        """How long ago that was, by the clock of this machine."""
        return datetime.now(UTC) - self.at


class Objects:
    """The objects below one URL. Safe to use from several threads."""

    def __init__(self, url: str) -> None:
        """Nothing is asked of the network yet.

        Raises:
            InvalidRequest: it is no URL of an object store, or a setting in the environment cannot be read.
        """
        self.url = plain(url)
        self._store = _opened(url)

    def put(self, key: str, content: bytes | Path) -> None:
        """Keep bytes, or those of a file: whole and durable when this returns, or not there at all.

        Raises:
            Unavailable, Failed: see `read`.
        """
        import obstore

        with self._told(key):
            obstore.put(self._store, key, content, chunk_size=_PIECE, max_concurrency=_PIECES_AT_ONCE)

    def read(self, key: str) -> bytes:
        """The bytes of an object.

        Raises:
            DataDamaged: there is none.
            Unavailable: the store does not answer, for longer than is usual.
            Failed: it refuses.
        """
        import obstore

        with self._told(key):
            return bytes(obstore.get(self._store, key).bytes())

    def fetch(self, key: str, file: Path) -> None:
        """Write an object to a new file; raises as `read` does, and `Failed` where there is no room."""
        import obstore

        with self._told(key), file.open("xb") as handle:
            for piece in obstore.get(self._store, key).stream(min_chunk_size=_PIECE):
                handle.write(piece)

    def ranges(self, key: str, spans: Sequence[tuple[int, int]]) -> list[Bytes]:
        """Pieces of an object, each given by offset and size, in few requests; raises as `read` does.

        A piece is shorter than was asked for where the object ends before it.
        """
        import obstore

        with self._told(key):
            offsets, sizes = zip(*spans, strict=True)
            return list(obstore.get_ranges(self._store, key, starts=offsets, lengths=sizes))

    def list(self, prefix: str) -> Iterator[Stored]:
        """What is stored below `prefix` (no ``/`` at its end), by key relative to the URL; raises as `read` does."""
        import obstore

        with self._told(prefix):
            for page in obstore.list(self._store, prefix, chunk_size=1000):
                for each in page:
                    yield Stored(each["path"], each["size"], each["last_modified"])

    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects. One that is not there is none to remove."""
        import obstore
        from obstore.exceptions import NotFoundError

        with self._told(keys[0] if keys else ""):
            for start in range(0, len(keys), 1000):
                try:
                    obstore.delete(self._store, list(keys[start : start + 1000]))
                except (NotFoundError, FileNotFoundError):
                    self._remove_one_by_one(keys[start : start + 1000])

    def _remove_one_by_one(self, keys: Sequence[str]) -> None:
        import obstore
        from obstore.exceptions import NotFoundError

        for key in keys:
            try:
                obstore.delete(self._store, key)
            except (NotFoundError, FileNotFoundError):
                continue

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """Errors of the store as ours, in one line."""
        from obstore import exceptions

        refused = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
        try:
            yield
        except (exceptions.NotFoundError, FileNotFoundError) as error:
            if any(sign in str(error) for sign in _NO_BUCKET):
                raise Failed(f"the object store {self.url} does not exist: create the bucket first") from None
            raise DataDamaged(f"{key} is gone from {self.url}") from None
        except refused:
            raise _no_rights(self.url, key) from None
        except exceptions.BaseError as error:
            raise _as_ours(error, self.url, key) from None
        except OSError as error:
            raise Failed(f"{error.filename or key} cannot be read or written: {error.strerror or error}") from error


def plain(url: str) -> str:
    """An address without password and options.

    >>> plain("s3://models/yard/?token=1"), plain("abfss://models:secret@team.dfs.core.windows.net/yard")
    ('s3://models/yard', 'abfss://models@team.dfs.core.windows.net/yard')
    """
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{user.partition(':')[0]}{at}{host}{parts.path}".rstrip("/")


def folder_of(url: str) -> Path | None:
    """The folder that a ``file`` URL means; None for other URLs.

    >>> folder_of("file:///srv/yard"), folder_of("s3://models/yard")
    (PosixPath('/srv/yard'), None)

    Raises:
        InvalidRequest: it names a folder of another machine, or none.
    """
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    if parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
        raise InvalidRequest(f"{url!r} is no folder of this machine; write file:///path/to/folder")
    return Path(unquote(parts.path))


def _opened(url: str) -> ObjectStore:
    scheme = urlsplit(url).scheme
    if scheme not in KINDS:
        raise InvalidRequest(
            f"MODELYARD_OBJECTS_URL is of the kind {scheme!r}, which is no object store; "
            "write s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder"
        )
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    retries: Any = {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_SECONDS)}
    try:
        return from_url(url, client_options=_options(), retry_config=retries)
    except (BaseError, ValueError) as error:
        raise InvalidRequest(f"the object store {plain(url)} cannot be used: {_first_line(error)}") from None


def _options() -> Any:
    """How to speak HTTP. What the environment says of it obstore would no longer look at, so it is taken over here."""
    options: dict[str, Any] = dict(_CLIENT)
    for cloud in ("AWS", "GOOGLE", "AZURE"):
        for name in _CLIENT_SETTINGS:
            said = os.environ.get(f"{cloud}_{name.upper()}")
            if said:
                options[name] = said
    return options


def _as_ours(error: Exception, url: str, key: str) -> Exception:
    whole, said = str(error), _first_line(error)
    if any(sign in whole for sign in _NO_BUCKET):
        return Failed(f"the object store {url} does not exist: create the bucket first")
    if "403 Forbidden" in whole or "401 Unauthorized" in whole:  # some calls are refused without a kind of their own
        return _no_rights(url, key)
    if "416 Range Not Satisfiable" in whole:
        return DataDamaged(f"{key} in {url} is shorter than it was")
    if "No space left" in whole or "File too large" in whole:
        return Failed(f"there is no room: {said}")
    return Unavailable(f"the object store {url} cannot be reached or does not answer as it should: {said}")


def _no_rights(url: str, key: str) -> Failed:
    return Failed(
        f"the object store {url} refuses access to {key or 'it'}: look at the credentials in the environment "
        "(AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_KEY, ...) and their rights"
    )


def _first_line(error: Exception) -> str:
    """What went wrong, without the Rust value behind it and without the options of addresses: they can be secret."""
    said = str(error).strip().partition("\n")[0].partition(": <?xml")[0]
    return re.sub(r"\?[^\s\"')]+", "?***", said)
