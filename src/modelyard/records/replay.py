"""A past call computed again: the recorded answers beside those of now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from modelyard.domain.checks import check
from modelyard.domain.compare import compare
from modelyard.domain.desired import CANDIDATE
from modelyard.domain.frame import Answers, Array
from modelyard.domain.manifest import Manifest
from modelyard.domain.records import PredictionRecord
from modelyard.domain.schema import Output, Schema
from modelyard.errors import InvalidRequest, ModelyardError, PredictionNotFound
from modelyard.protocol import decode
from modelyard.records.log import decode_record
from modelyard.records.query import RecordDatabase
from modelyard.records.tables import id_of_row
from modelyard.runtime.interface import Runtime

Verdict: TypeAlias = Literal["same", "within tolerance", "different"]
"""``same``: every value is equal (NaN to NaN); ``within tolerance``: as the version's own tolerance says."""


@dataclass(frozen=True, slots=True)
class Found:
    """A record, and which row of it was asked for (None: all). `others` counts the other records of that id."""

    record: PredictionRecord
    row: int | None
    others: int = 0


@dataclass(frozen=True, slots=True)
class ReplayedRow:
    """One row: each value of the answer by name, as recorded and as computed now."""

    prediction_id: str
    recorded: dict[str, Any]
    recomputed: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Replay:
    """How it went. Where a side has no answer, `recorded_error` or `recomputed_error` says what there was instead."""

    verdict: Verdict
    rows: tuple[ReplayedRow, ...] = ()
    recorded_error: str | None = None
    recomputed_error: str | None = None
    largest_abs: float = 0.0
    largest_ulp: int = 0
    reason: str = ""


def find(directory: str | Path, prediction_id: str) -> Found:
    """The newest record of that id: of a row, or of a call with all its rows.

    What a shadow computed for the same call is recorded under the same id; it is found where there is nothing else.

    Raises:
        PredictionNotFound: there is none in `directory`.
    """
    with RecordDatabase(directory) as database:
        return find_in(database, directory, prediction_id)


def find_in(database: RecordDatabase, directory: str | Path, prediction_id: str, digest: str = "") -> Found:
    """The same where the records of `directory` are open already, for those who look for many; of one version only.

    Raises:
        PredictionNotFound: there is none in `directory`.
    """
    calls = [(call.row, decode_record(call.payload)) for call in database.calls(prediction_id)]
    mine = [call for call in calls if not digest or call[1].digest == digest]
    if not mine:
        raise PredictionNotFound(
            f"no prediction {prediction_id!r} is recorded in {directory}; the table predictions lists those that are "
            "(`modelyard records query`)"
        )
    told = [call for call in mine if not call[1].deployment.endswith(CANDIDATE)]
    row, newest = (told or mine)[-1]
    return Found(newest, row, len(calls) - 1)


def require_version(record: PredictionRecord) -> None:
    """Let `record` pass if a version was reached, and so can be asked again.

    Raises:
        InvalidRequest: none was; the message says how the call ended.
    """
    if not record.digest:
        raise InvalidRequest(
            f"call {record.prediction_id!r} reached no version, so there is nothing to compute again; "
            f"it ended with {record.status}: {record.error or record.outcome}"
        )


def replay(found: Found, manifest: Manifest, runtime: Runtime) -> Replay:
    """Compute the whole recorded call again, as it came, and compare the rows that were asked for.

    Raises:
        InvalidRequest: the recorded answer cannot be read as what it claims to be.
    """
    record, schema = found.record, manifest.schema
    recorded: Answers | None = None
    if record.outcome == "ok":
        recorded = decode.read_answers(record.form, record.response, schema, record.response_type)
    again = _compute(record, schema, runtime)
    if recorded is None or again.answers is None:
        both_refused = recorded is None and again.answers is None
        return Replay(
            "same" if both_refused else "different",
            recorded_error=record.error if recorded is None else None,
            recomputed_error=again.error,
            reason="" if both_refused else "only one of the two has an answer",
        )
    return _compared(found, manifest, recorded, again.answers)


@dataclass(frozen=True, slots=True)
class _Again:
    answers: Answers | None = None
    error: str | None = None
    row_ids: Sequence[str] = field(default=())


def _compute(record: PredictionRecord, schema: Schema, runtime: Runtime) -> _Again:
    try:
        call = decode.read_request(record.form, record.request, schema, record.content_type)
        check(call.frame, schema)
        return _Again(runtime.predict(call.frame, call.outputs))
    except ModelyardError as error:
        return _Again(error=str(error))


def _compared(found: Found, manifest: Manifest, recorded: Answers, got: Answers) -> Replay:
    outputs = [output for output in manifest.schema.outputs if output.name in recorded]
    rows = range(found.record.rows) if found.row is None else [found.row]
    picked = list(rows)
    recorded = {name: array[picked] for name, array in recorded.items()}
    # JSON has no infinities: where null was sent, the two cannot be told apart.
    got = {name: _as_sent(array[picked], recorded.get(name)) for name, array in got.items()}
    comparison = compare(recorded, got, outputs, manifest.tolerance, rows=picked)
    same = all(_same(recorded[output.name], got.get(output.name)) for output in outputs)
    return Replay(
        "same" if same else "within tolerance" if comparison.equal else "different",
        tuple(
            ReplayedRow(
                id_of_row(found.record, row, found.record.rows),
                values_of(recorded, outputs, index),
                values_of(got, outputs, index),
            )
            for index, row in enumerate(picked)
        ),
        largest_abs=comparison.largest_abs,
        largest_ulp=comparison.largest_ulp,
        reason=comparison.reason,
    )


def values_of(answers: Answers, outputs: Sequence[Output], row: int) -> dict[str, Any]:
    """The answer to one row as plain values by name, one for each class of a probability or score.

    >>> from modelyard.domain.schema import Kind
    >>> proba = Output("predict_proba", Kind.FLOAT64, "probability", "predict_proba", shape=(2,), classes=("no", "yes"))
    >>> values_of({"predict_proba": np.array([[0.25, 0.75]])}, [proba], 0)
    {'predict_proba[no]': 0.25, 'predict_proba[yes]': 0.75}
    """
    values: dict[str, Any] = {}
    for output in outputs:
        if output.name not in answers:
            continue
        value = answers[output.name][row]
        if isinstance(value, np.ndarray) and value.ndim == 1:
            named = output.classes if output.classes is not None and len(output.classes) == len(value) else None
            keys = named or range(len(value))
            values |= {f"{output.name}[{key}]": _plain(one) for key, one in zip(keys, value, strict=True)}
        else:
            values[output.name] = _plain(value)
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, np.datetime64):
        return str(value)
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _as_sent(got: Array, recorded: Array | None) -> Array:
    if recorded is None or got.dtype.kind != "f" or recorded.shape != got.shape or recorded.dtype.kind != "f":
        return got
    return np.where(np.isnan(recorded) & np.isinf(got), np.asarray(np.nan, got.dtype), got)


def _same(recorded: Array, got: Array | None) -> bool:
    if got is None or recorded.shape != got.shape or recorded.dtype != got.dtype:
        return False
    return bool(np.array_equal(recorded, got, equal_nan=recorded.dtype.kind in "fM"))
