"""The bodies of many calls of one version put together, so that arrays are made once for all and not once a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from modelyard.domain.frame import Answers, Array, Frame, concat_frames
from modelyard.domain.records import PredictionRecord
from modelyard.domain.schema import Output, Schema
from modelyard.errors import ModelyardError
from modelyard.protocol import decode
from modelyard.protocol.forms import FORMS
from modelyard.protocol.infer import InferResponse
from modelyard.protocol.media import JSON, PLAIN, media_of
from modelyard.protocol.oip import read_output
from modelyard.protocol.table import TableReader

Of: TypeAlias = NDArray[np.intp]
"""For each row, the number of the call it came in."""


class _Rows(msgspec.Struct):
    rows: list[dict[str, Any]]


_ROWS = msgspec.json.Decoder(_Rows)
_TENSORS = msgspec.json.Decoder(InferResponse)
_UNREADABLE = (ModelyardError, msgspec.MsgspecError, LookupError, ValueError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Given:
    """Rows that were given, and which call each came in."""

    frame: Frame
    of: Of


@dataclass(frozen=True, slots=True)
class Told:
    """Answers of calls that asked for the same outputs, and which call each row belongs to."""

    answers: Answers
    of: Of


@dataclass(slots=True)
class _Leaves:
    """The answers of calls with the same outputs, flat, as JSON has them."""

    values: dict[str, list[Any]]
    inner: dict[str, tuple[int, ...]]
    of: list[int] = field(default_factory=list)


class ManyCalls:
    """Gathers answered calls of one schema, then gives their rows and answers as arrays.

    `unreadable` are the numbers of calls whose bodies cannot be read. `rows` says how many rows each call had.
    """

    def __init__(self, reader: TableReader) -> None:
        self._reader = reader
        self._outputs = {output.name: output for output in reader.schema.outputs}
        self._single: list[tuple[Any, ...]] = []
        self._single_of: list[int] = []
        self._frames: list[tuple[int, Frame]] = []
        self._leaves: dict[tuple[Any, ...], _Leaves] = {}
        self._answers: dict[tuple[Any, ...], list[tuple[int, Answers]]] = {}
        self._one: dict[tuple[str, ...], tuple[list[dict[str, Any]], list[int]]] = {}
        self.rows: dict[int, int] = {}
        self.unreadable: set[int] = set()

    def add(self, number: int, record: PredictionRecord) -> None:
        """Take in an answered call."""
        try:
            media = PLAIN if record.content_type == JSON else media_of(record.content_type)
            frame = FORMS[record.form].read(record.request, media, self._reader).frame
            self._add_answers(number, record, frame.rows)
        except _UNREADABLE:
            self.unreadable.add(number)
            return
        self.rows[number] = frame.rows
        if frame.scalars is not None:
            self._single.append(frame.scalars)
            self._single_of.append(number)
        else:
            self._frames.append((number, frame))

    def given(self) -> Given | None:
        """All rows; None where there are none."""
        frames, of = [], []
        if self._single:
            frames.append(self._reader.quick.table(list(zip(*self._single, strict=True)), len(self._single)))
            of.append(np.array(self._single_of, dtype=np.intp))
        for number, frame in self._frames:
            frames.append(frame)
            of.append(np.full(frame.rows, number, dtype=np.intp))
        if not frames:
            return None
        whole = frames[0] if len(frames) == 1 else concat_frames(frames)
        return Given(whole, np.concatenate(of))

    def told(self) -> list[Told]:
        """All answers, by the outputs that were asked for."""
        self._read_single()
        found = []
        for leaves in self._leaves.values():
            rows = len(leaves.of)
            try:
                answers = {
                    name: read_output(values, self._outputs[name], [rows, *leaves.inner[name]])
                    for name, values in leaves.values.items()
                }
            except _UNREADABLE:
                self.unreadable.update(leaves.of)
                continue
            found.append(Told(answers, np.array(leaves.of, dtype=np.intp)))
        for parts in self._answers.values():
            names = parts[0][1]
            joined = {name: np.concatenate([answers[name] for _, answers in parts]) for name in names}
            of = [np.full(_length(answers), number, dtype=np.intp) for number, answers in parts]
            found.append(Told(joined, np.concatenate(of)))
        return found

    def _add_answers(self, number: int, record: PredictionRecord, rows: int) -> None:
        if record.form == "rows" and record.response_type == JSON:
            answered = _ROWS.decode(record.response).rows
            if len(answered) != rows:
                raise ValueError("another number of rows than was asked about")
            if rows == 1:
                alike, numbers = self._one.setdefault(tuple(answered[0]), ([], []))
                alike.append(answered[0])
                numbers.append(number)
            else:
                self._of_rows([number] * rows, answered)
        elif record.form == "oip" and record.response_type == JSON:
            self._of_tensors(number, _TENSORS.decode(record.response), rows)
        else:
            self._slowly(number, record)

    def _slowly(self, number: int, record: PredictionRecord) -> None:
        answers = decode.read_answers(record.form, record.response, self._reader.schema, record.response_type)
        shapes = tuple((name, array.dtype.str, array.shape[1:]) for name, array in answers.items())
        if answers:
            self._answers.setdefault(shapes, []).append((number, answers))

    def _read_single(self) -> None:
        """Answers of one row each in the plain form: those with the same members together."""
        for rows, numbers in self._one.values():
            try:
                self._of_rows(numbers, rows)
            except _UNREADABLE:
                self.unreadable.update(numbers)
        self._one.clear()

    def _of_rows(self, numbers: Sequence[int], rows: list[dict[str, Any]]) -> None:
        """Cells of the plain form: a scalar, or an object with one member a class."""
        first = rows[0] if rows else {}
        names = [name for name in self._outputs if name in first]
        flat: dict[str, list[Any]] = {}
        inner: dict[str, tuple[int, ...]] = {}
        for name in names:
            cell = first[name]
            if type(cell) is dict:
                flat[name], inner[name] = [one for row in rows for one in row[name].values()], (len(cell),)
            elif type(cell) is list:
                flat[name], inner[name] = _flat([row[name] for row in rows])
            else:
                flat[name], inner[name] = [row[name] for row in rows], ()
        self._keep(numbers, flat, inner)

    def _of_tensors(self, number: int, response: InferResponse, rows: int) -> None:
        flat: dict[str, list[Any]] = {}
        inner: dict[str, tuple[int, ...]] = {}
        for tensor in response.outputs:
            output = self._outputs[tensor.name]
            if tensor.data is None or (tensor.datatype == "BYTES" and output.role in ("probability", "score")):
                continue
            flat[tensor.name], inner[tensor.name] = tensor.data, tuple(tensor.shape[1:])
        self._keep([number] * rows, flat, inner)

    def _keep(self, of: Sequence[int], flat: dict[str, list[Any]], inner: dict[str, tuple[int, ...]]) -> None:
        rows = len(of)
        if any(len(values) != rows * prod(inner[name]) for name, values in flat.items()):
            raise ValueError("ragged answers")
        if not flat:
            return
        key = tuple(inner.items())
        leaves = self._leaves.get(key)
        if leaves is None:
            self._leaves[key] = _Leaves({name: list(values) for name, values in flat.items()}, inner, list(of))
            return
        for name, values in flat.items():
            leaves.values[name] += values
        leaves.of += of


def output_vectors(answers: Answers, schema: Schema) -> dict[str, Array]:
    """Answers column by column, named as in a reference profile: ``predict``, ``predict_proba[yes]``.

    >>> from modelyard.domain.schema import Kind
    >>> proba = Output("predict_proba", Kind.FLOAT64, "probability", "predict_proba", shape=(2,), classes=("no", "yes"))
    >>> list(output_vectors({"predict_proba": np.array([[0.25, 0.75]])}, Schema("dataframe", (), (proba,))))
    ['predict_proba[no]', 'predict_proba[yes]']
    """
    columns: dict[str, Array] = {}
    for output in schema.outputs:
        if output.name not in answers:
            continue
        array = answers[output.name]
        if array.ndim == 1:
            columns[output.name] = array
            continue
        flat = array.reshape(len(array), -1)
        columns |= {f"{output.name}[{part}]": flat[:, at] for at, part in enumerate(_parts(output, flat.shape[1]))}
    return columns


def _parts(output: Output, width: int) -> Sequence[Any]:
    named = output.classes if output.shape else None
    return named if named is not None and len(named) == width else range(width)


def _flat(cells: Sequence[Any]) -> tuple[list[Any], tuple[int, ...]]:
    """Nested lists as leaves, and the shape that the first of them has."""
    shape: list[int] = []
    leaves = list(cells)
    while leaves and isinstance(leaves[0], list):
        shape.append(len(leaves[0]))
        leaves = [item for part in leaves for item in part]
    return leaves, tuple(shape)


def _length(answers: Answers) -> int:
    return len(next(iter(answers.values())))
