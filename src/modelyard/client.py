"""Calls a server from Python: ``my.Client(url).predict("flights-delay", table)``."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Self, TypeAlias, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec
import numpy as np

from modelyard import errors
from modelyard.bundle.results import index_of, outputs_of, returned
from modelyard.bundle.tabular import to_frame
from modelyard.domain.frame import Answers, Frame
from modelyard.domain.moments import event_header
from modelyard.domain.records import row_id
from modelyard.domain.schema import Scalar, Schema
from modelyard.errors import InvalidInput, InvalidRequest, ModelyardError, Rejected, ServiceUnreachable
from modelyard.protocol import arrow, oip
from modelyard.protocol.media import ARROW, JSON

ARROW_ROWS = 500
"""Tables from here on go and come as Arrow streams, which are read faster than JSON; shorter ones are not."""

ROWS_A_REQUEST, CELLS_A_REQUEST = 50_000, 1_000_000
"""Larger tables are sent in pieces."""

_LABELS_A_REQUEST = 10_000
_TRIES = 3
KEY_HEADER = "x-modelyard-key"
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})

Moment: TypeAlias = datetime | str | int
"""A datetime (UTC if it has no zone), RFC 3339, or milliseconds since 1970."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Known:
    """What the server says that a deployment takes and answers, and which version said so."""

    deployment: str
    version: str
    schema: Schema
    pinned: bool


class _OtherVersion(Exception):
    """Another version of the deployment answered than the one whose schema was used; `known` is what to use."""

    def __init__(self, known: _Known) -> None:
        self.known = known


class Client:
    """Asks one server for predictions, as if it were the estimator.

    Tables are matched by column name; what comes back has the type, dtypes and index that the estimator's own method
    would have given. Not safe for use by several threads at once.

    Args:
        url: the server's address, as `modelyard up` prints it.
        timeout: seconds that one request may take.

    >>> client = Client("http://127.0.0.1:8080")  # doctest: +SKIP
    >>> client.predict("flights-delay", table)  # doctest: +SKIP
    >>> client.label(client.last_prediction_ids[0], "late")  # doctest: +SKIP
    """

    def __init__(self, url: str = "http://127.0.0.1:8080", *, timeout: float = 60.0) -> None:
        self.url = url.rstrip("/")
        # A proxy is for other machines.
        self._http = httpx.Client(base_url=self.url, timeout=timeout, trust_env=not _is_local(self.url))
        self._schemas: dict[tuple[str, int | None], _Known] = {}
        self.last_prediction_ids: list[str] = []
        """The id of each row of the last call, for `label`."""

    def predict(
        self,
        deployment: str,
        data: Any,
        *,
        version: int | None = None,
        event_time: datetime | None = None,
        key: str = "",
    ) -> Any:
        """What the estimator's ``predict``, or the packed function, returns for `data`.

        Args:
            deployment: the name to call.
            data: a table, array or list, as the estimator takes it.
            version: insist on this version; otherwise the server chooses.
            event_time: the moment that the rows are about, with its time zone, if that is not now: monitoring puts
                them there.
            key: what the rows are about, such as a customer: where two versions share the calls, one of them gets all
                with that key.

        Raises:
            InvalidInput: rows that do not fit the schema; names column, row, what was expected and what came.
            DeploymentNotFound, VersionNotFound, VersionNotReady: nobody answers under that name.
            RowsRefused, ModelFailed: the model did not take the rows, or broke.
            ServiceUnreachable: no server answers at the address.
        """
        return self._call("predict", deployment, data, version, _headers(event_time, key))

    def predict_proba(
        self,
        deployment: str,
        data: Any,
        *,
        version: int | None = None,
        event_time: datetime | None = None,
        key: str = "",
    ) -> Any:
        """What the estimator's ``predict_proba`` returns for `data`; see `predict`."""
        return self._call("predict_proba", deployment, data, version, _headers(event_time, key))

    def decision_function(
        self,
        deployment: str,
        data: Any,
        *,
        version: int | None = None,
        event_time: datetime | None = None,
        key: str = "",
    ) -> Any:
        """What the estimator's ``decision_function`` returns for `data`; see `predict`."""
        return self._call("decision_function", deployment, data, version, _headers(event_time, key))

    def transform(
        self,
        deployment: str,
        data: Any,
        *,
        version: int | None = None,
        event_time: datetime | None = None,
        key: str = "",
    ) -> Any:
        """What the estimator's ``transform`` returns for `data`; see `predict`."""
        return self._call("transform", deployment, data, version, _headers(event_time, key))

    def answers(
        self,
        deployment: str,
        data: Any,
        *,
        version: int | None = None,
        event_time: datetime | None = None,
        key: str = "",
    ) -> Answers:
        """Every output by name, as plain arrays; `data` may be a `Frame` too. See `predict`."""
        headers = _headers(event_time, key)

        def ask(known: _Known) -> Answers:
            return self._ask(known, data if isinstance(data, Frame) else to_frame(data, known.schema), None, headers)

        return self._with_schema(deployment, version, ask)

    def status(self) -> dict[str, Any]:
        """What is deployed, what answers and why not, as the server's status page says.

        Raises:
            ServiceUnreachable: no server answers at the address.
        """
        document: dict[str, Any] = self._get("/status")
        return document

    def schema(self, deployment: str, *, version: int | None = None) -> Schema:
        """What the deployment takes and answers, as the server says now.

        Raises:
            DeploymentNotFound, VersionNotFound, VersionNotReady: nobody answers under that name.
        """
        return self._learn(deployment, version).schema

    def label(self, prediction_id: str, value: Scalar | None, *, known_at: Moment | None = None) -> None:
        """Tell the truth for one predicted row. A later one for the same id corrects it.

        `known_at` is when it became known, if that is not now: a datetime (UTC if it has no zone), RFC 3339, or
        milliseconds since 1970.
        """
        self._label([{"prediction_id": prediction_id, "value": _plain(value)} | _known(known_at)])

    def labels(self, labels: Iterable[tuple[str, Scalar | None]], *, known_at: Moment | None = None) -> int:
        """Tell the truth for several rows, as ``(prediction id, value)``; the number that the server has kept."""
        known = _known(known_at)
        return self._label([{"prediction_id": name, "value": _plain(value)} | known for name, value in labels])

    def label_by_key(
        self,
        deployment: str,
        labels: Iterable[tuple[Mapping[str, Scalar], Scalar | None]],
        *,
        known_at: Moment | None = None,
    ) -> int:
        """Tell the truth for the rows of `deployment` with these keys, as ``({column: value}, value)``.

        Columns of the key are inputs, or keys that were sent beside the rows. The number that the server has kept.

        >>> client.label_by_key("flights", [({"flight": 1545, "day": "2013-03-01"}, "late")])  # doctest: +SKIP
        """
        known = _known(known_at)
        return self._label(
            [
                {"deployment": deployment, "value": _plain(value), "key": {name: _plain(key[name]) for name in key}}
                | known
                for key, value in labels
            ]
        )

    def _label(self, labels: list[dict[str, Any]]) -> int:
        kept = 0
        for start in range(0, max(len(labels), 1), _LABELS_A_REQUEST):
            some = {"labels": labels[start : start + _LABELS_A_REQUEST]}
            kept += int(self._post("/labels", msgspec.json.encode(some))["accepted"])
        return kept

    def is_ready(self) -> bool:
        """Whether everything answers that should.

        Raises:
            ServiceUnreachable: no server answers at the address.
        """
        return self._send("GET", "/v2/health/ready").status_code == 200

    def close(self) -> None:
        """Let go of the connection. Calling it twice is harmless."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _call(self, method: str, deployment: str, data: Any, version: int | None, headers: Mapping[str, str]) -> Any:
        def ask(known: _Known) -> Any:
            outputs = outputs_of(known.schema, method)
            frame = to_frame(data, known.schema)
            answers = self._ask(known, frame, [output.name for output in outputs], headers)
            return returned(outputs, answers, index_of(data))

        return self._with_schema(deployment, version, ask)

    def _with_schema(self, deployment: str, version: int | None, ask: Callable[[_Known], Result]) -> Result:
        """Ask with the schema known so far; again, from the beginning, when the version turns out to be another."""
        known = self._schemas.get((deployment, version)) or self._learn(deployment, version)
        for _ in range(_TRIES):
            try:
                return ask(known)
            except _OtherVersion as other:
                known = other.known
            except Rejected:
                now = self._learn(deployment, version)
                if now.version == known.version or known.pinned:
                    raise
                known = now
        raise errors.VersionNotReady(f"{deployment!r} changes its version faster than {_TRIES} calls; try again")

    def _learn(self, deployment: str, version: int | None) -> _Known:
        metadata = self._get(_path(deployment, version))
        schema = oip.schema_of(metadata)
        known = _Known(deployment, str(metadata["versions"][0]), schema, version is not None)
        self._schemas[deployment, version] = known
        return known

    def _exact(self, deployment: str, version: str) -> _Known:
        return self._schemas.get((deployment, int(version))) or self._learn(deployment, int(version))

    def _ask(self, known: _Known, frame: Frame, outputs: list[str] | None, headers: Mapping[str, str]) -> Answers:
        path = _path(known.deployment, int(known.version) if known.pinned else None) + "/infer"
        ask = self._ask_json if frame.rows < ARROW_ROWS else self._ask_arrow
        pieces, ids = [], []
        for start, piece in _pieces(frame):
            try:
                answers, prediction_id, version = ask(path, known, piece, outputs, headers)
            except InvalidInput as error:
                raise _at(start, error) from None
            except errors.VersionNotFound:  # replaced between two pieces: all of them are asked for again
                if known.pinned or not start:
                    raise
                raise _OtherVersion(self._learn(known.deployment, None)) from None
            path = _path(known.deployment, int(version)) + "/infer"  # one version answers all of one table
            pieces.append(answers)
            ids += [row_id(prediction_id, row, piece.rows) for row in range(piece.rows)]
        self.last_prediction_ids = ids
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def _ask_json(
        self, path: str, known: _Known, frame: Frame, outputs: list[str] | None, headers: Mapping[str, str]
    ) -> tuple[Answers, str, str]:
        body = self._raw("POST", path, oip.write_request(frame, known.schema, outputs=outputs), JSON, headers)
        version = oip.version_of(body)
        self._check_version(known, version)
        response = oip.read_response(body, known.schema)
        return response.answers, response.prediction_id, version

    def _ask_arrow(
        self, path: str, known: _Known, frame: Frame, outputs: list[str] | None, headers: Mapping[str, str]
    ) -> tuple[Answers, str, str]:
        body = self._raw("POST", path, arrow.write_request(frame, known.schema, outputs=outputs), ARROW, headers)
        version, prediction_id = arrow.facts_of(body)
        self._check_version(known, version)
        return arrow.read_response(body, known.schema), prediction_id, version

    def _check_version(self, known: _Known, version: str) -> None:
        """See that a version which answered takes and answers the same as what is known of the deployment.

        Raises:
            _OtherVersion: it does not; `known` is what to ask it with.
        """
        if version == known.version:
            return
        try:
            there = self._exact(known.deployment, version)
        except errors.NotFound:  # it has been replaced since
            raise _OtherVersion(self._learn(known.deployment, None)) from None
        if not there.schema.is_written_like(known.schema):
            raise _OtherVersion(there)

    def _get(self, path: str) -> Any:
        return _document(self._raw("GET", path))

    def _post(self, path: str, body: bytes) -> Any:
        return _document(self._raw("POST", path, body))

    def _raw(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = JSON,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> bytes:
        response = self._send(method, path, body, content_type, headers)
        if response.status_code != 200:
            raise error_from(response.status_code, response.content)
        return response.content

    def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = JSON,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> httpx.Response:
        sent = {"content-type": content_type, **headers} if body is not None else dict(headers)
        try:
            return self._http.request(method, path, content=body, headers=sent)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServiceUnreachable(
                f"no server answers at {self.url} ({error}); is `modelyard up` running?"
            ) from error


def _at(start: int, error: InvalidInput) -> InvalidInput:
    """The error of a piece that begins at row `start`."""
    if not start or error.row is None:
        return error
    row = start + error.row
    return InvalidInput(f"row {row} of the table: {error}, counted from {start}", column=error.column, row=row)


def _pieces(frame: Frame) -> Iterator[tuple[int, Frame]]:
    """The table in pieces that a server takes, with their first rows' positions; one without rows is a piece too."""
    cells = sum(vector.values.size for vector in frame.columns.values()) / max(frame.rows, 1)
    size = max(min(ROWS_A_REQUEST, int(CELLS_A_REQUEST / max(cells, 1))), 1)
    for start in range(0, max(frame.rows, 1), size):
        yield start, frame.take(slice(start, start + size))


def _path(deployment: str, version: int | None) -> str:
    suffix = "" if version is None else f"/versions/{version}"
    return f"/v2/models/{quote(deployment, safe='')}{suffix}"


def _headers(moment: datetime | None, key: str) -> Mapping[str, str]:
    """What goes along with every request of one call."""
    headers = {KEY_HEADER: key} if key else {}
    return headers if moment is None else headers | dict(event_header(moment))


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _known(moment: Moment | None) -> dict[str, Any]:
    if moment is None:
        return {}
    return {"known_at": moment.isoformat() if isinstance(moment, datetime) else moment}


def _plain(value: Any) -> Scalar | None:
    """A label as JSON can carry it: numpy scalars become Python's, not-a-number becomes null."""
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is None or isinstance(plain, bool | int | str):
        return plain
    if isinstance(plain, float):
        return None if np.isnan(plain) else plain
    raise InvalidInput(f"a label is a text, a number, true, false or None; got {type(value).__name__}")


def _document(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"the server's answer is not JSON: {error}") from None


_BY_STATUS: Mapping[int, type[ModelyardError]] = {
    400: errors.InvalidRequest,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.TooLarge,
    422: errors.RowsRefused,
    501: errors.NotOffered,
    503: errors.Unavailable,
}


def error_from(status: int, body: bytes) -> ModelyardError:
    """The error that a server's answer reports, as the kind that it was there, with the same words.

    >>> error_from(404, b'{"error": "no deployment", "code": "DeploymentNotFound"}')
    DeploymentNotFound('no deployment')
    """
    try:
        document = msgspec.json.decode(body, type=_ErrorBody)
    except msgspec.DecodeError:
        document = _ErrorBody(f"the server answered with status {status}: {body[:200].decode(errors='replace')}")
    kind = _BY_STATUS.get(status, errors.Failed)
    named = getattr(errors, document.code, None)
    if isinstance(named, type) and issubclass(named, ModelyardError):
        kind = named
    error = Exception.__new__(kind, document.error)  # past their constructors, which compose a message of their own
    if isinstance(error, InvalidInput):
        error.column, error.row = document.details.get("column"), document.details.get("row")
    return error


class _ErrorBody(msgspec.Struct):
    error: str
    code: str = ""
    details: dict[str, Any] = {}
