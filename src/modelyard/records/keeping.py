"""What of the calls of a deployment is kept: a share of them, bodies up to a size, for so many days.

Rules are kept beside the tables, so that all processes and all homes that share the tables go by the same: in
``keeping.json`` of the records folder, or below ``MODELYARD_RECORDS_URL`` in ``keeping/``. They are applied when
records are shipped or read. What they leave out is counted (table ``predictions_dropped``). Monitoring counts calls
before any rule is applied.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote, unquote, urlsplit
from zlib import crc32

import msgspec

from modelyard.domain.records import PredictionRecord
from modelyard.errors import DataDamaged, InvalidRequest
from modelyard.objects import KINDS, Objects, folder_of
from modelyard.records.delta import RECORDS_URL

FILE = "keeping.json"
SHARED = "keeping"
"""The folder of shared rules, beside the tables."""

SAMPLED, TOO_LARGE, EXPIRED = "not in the sample", "body too large", "expired"
"""Why something was left out."""


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """What of a deployment's calls is kept.

    `share` of the calls that were answered, drawn by their id, so that shipping again draws the same; the others are
    always kept. A call whose bodies are longer than `body_bytes` together is kept without them. Rows are removed
    `days` after the day they came on.
    """

    share: float = 1.0
    body_bytes: int | None = None
    days: int | None = None

    def checked(self) -> Rule:
        """The rule itself.

        Raises:
            InvalidRequest: a number that makes no sense.
        """
        if not 0 <= self.share <= 1:
            raise InvalidRequest(f"the share has to be between 0 and 1, not {self.share}")
        if (self.body_bytes is not None and self.body_bytes < 0) or (self.days is not None and self.days < 1):
            raise InvalidRequest("bytes have to be 0 or more, and days 1 or more")
        return self

    def leaves_out(self, record: PredictionRecord) -> bool:
        """Whether a call is not in the sample.

        >>> from modelyard.domain.records import PredictionRecord
        >>> call = PredictionRecord("a1", "churn", "churn", 1, "", 0, 0, 200, "ok", "rows", 1, b"{}", b"{}")
        >>> Rule(share=0.0).leaves_out(call), Rule().leaves_out(call)
        (True, False)
        """
        return record.outcome == "ok" and crc32(record.prediction_id.encode(errors="replace")) >= self.share * 2**32

    def is_too_large(self, record: PredictionRecord) -> bool:
        """Whether a call is kept without its bodies."""
        return self.body_bytes is not None and len(record.request) + len(record.response) > self.body_bytes


_Kind = TypeVar("_Kind")

Rules = Mapping[str, Rule]
"""By deployment; what has none is kept whole and for ever."""


FRESH = 10.0
"""Rules that homes share are read again after so many seconds."""


def rules(directory: Path) -> Rules:
    """The rules that hold for a records folder: those beside its tables, which all homes that share them see.

    Where tables are shared, rules of the folder itself, as earlier releases wrote them, hold for deployments that have
    none there.

    Raises:
        DataDamaged: a rule cannot be read.
        Unavailable, Failed: the store of the tables cannot be reached or read.
    """
    return {**_own(directory), **_shared()}


def set_rule(directory: Path, deployment: str, rule: Rule) -> None:
    """Keep the calls of a deployment by this rule from now on, for all homes that share the tables.

    Raises:
        InvalidRequest: a number that makes no sense.
        Unavailable, Failed: the store of the tables cannot be reached or written.
    """
    rule, place = rule.checked(), _shared_place()
    if place is not None:
        place.put(f"{quote(deployment, safe='')}.json", _written(rule))
        _known.clear()
        return
    hidden = directory / f".{FILE}.new"
    hidden.write_bytes(_written({**_own(directory), deployment: rule}))
    hidden.rename(directory / FILE)


def _written(rules_: Rule | Rules) -> bytes:
    return msgspec.json.format(msgspec.json.encode(rules_), indent=2)


def _own(directory: Path) -> Rules:
    try:
        return _read((directory / FILE).read_bytes(), dict[str, Rule], directory / FILE)
    except FileNotFoundError:
        return {}


def _read(raw: bytes, kind: type[_Kind], place: object) -> _Kind:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError as error:
        raise DataDamaged(f"{place} cannot be read: {error}") from error


class _Place(Protocol):
    """Where homes that share tables keep their rules: one file or object a deployment, so that none is overwritten."""

    def put(self, name: str, content: bytes) -> None: ...

    def all(self) -> dict[str, bytes]: ...


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        hidden = self._folder / f".{name}.{os.getpid()}.new"
        hidden.write_bytes(content)
        hidden.rename(self._folder / name)

    def all(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self._folder.glob("*.json"))}


class _Store:
    def __init__(self, url: str) -> None:
        self._objects = Objects(url)

    def put(self, name: str, content: bytes) -> None:
        self._objects.put(f"{SHARED}/{name}", content)

    def all(self) -> dict[str, bytes]:
        names = sorted(each.name.rpartition("/")[2] for each in self._objects.list(SHARED))
        return {name: self._objects.read(f"{SHARED}/{name}") for name in names}


_known: dict[str, tuple[float, Rules]] = {}
"""By address of shared tables: when their rules were read, and what they were."""


def _shared() -> Rules:
    place = _shared_place()
    if place is None:
        return {}
    url, now = os.environ[RECORDS_URL], time.monotonic()
    read = _known.get(url)
    if read is None or now - read[0] >= FRESH:
        found = {
            unquote(name.removesuffix(".json")): _read(raw, Rule, f"{SHARED}/{name}")
            for name, raw in place.all().items()
        }
        read = _known[url] = (now, found)
    return read[1]


def _shared_place() -> _Place | None:
    """Beside the tables, if they do not lie in the records folder; None also where only Delta knows the store."""
    url = os.environ.get(RECORDS_URL)
    if not url:
        return None
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme in KINDS:
        return _Store(url)
    folder = folder_of(url) if scheme else Path(url)
    return None if folder is None else _Folder(folder / SHARED)
