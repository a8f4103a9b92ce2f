"""Rows with what was answered and what turned out to be true, as arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modelyard.domain.frame import Array
from modelyard.domain.schema import Scalar
from modelyard.monitoring.performance.task import LABEL, Aim, Task

NOT_KNOWN = -1
"""The code of a label that has not come."""

NO_CLASS = -2
"""The code of a label that is no class of the model, or an answer that is none."""

_NAT = np.datetime64("NaT", "us")


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Answered rows of one task.

    `moments` are event times, `known_at` when the label became known (NaT: not yet). Classes are codes, positions in
    the task's classes; numbers of a regression are NaN where they are missing. `probabilities` has a column a class.
    """

    task: Task
    moments: NDArray[np.datetime64]
    known_at: NDArray[np.datetime64]
    truth: Array
    answer: Array
    probabilities: Array | None = None
    score: Array | None = None

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Where the truth is known and means something for this model."""
        found: NDArray[np.bool_] = np.isfinite(self.truth) if self.task.aim is Aim.REGRESSION else self.truth >= 0
        return found

    @property
    def age(self) -> NDArray[np.timedelta64]:
        """How long after the event each label became known; NaT where it has not."""
        return self.known_at - self.moments

    def take(self, rows: slice | Array) -> Judged:
        """The same with these rows only."""
        return Judged(
            self.task,
            self.moments[rows],
            self.known_at[rows],
            self.truth[rows],
            self.answer[rows],
            None if self.probabilities is None else self.probabilities[rows],
            None if self.score is None else self.score[rows],
        )


def judge(table: pa.Table, task: Task) -> Judged:
    """Read rows of a deployment's flat view: ``event_time`` or ``time``, answers, ``label``, ``labelled_at``.

    Labels and answers mean the class that they are written like: 1, 1.0, true and "1" are the class 1.

    >>> task = Task(aim=Aim.BINARY, answer="predict", classes=(0, 1))
    >>> judge(pa.table({"predict": [0, 1, 1], "label": ["1", None, "late"]}), task).truth.tolist()
    [1, -1, -2]
    """
    moments = _moments(table)
    known_at = _times(table, "labelled_at")
    if task.aim is Aim.REGRESSION:
        truth, answer = _numbers(table, LABEL), _numbers(table, task.answer)
        return Judged(task, moments, _known(known_at, moments, np.isfinite(truth)), truth, answer)
    truth = _codes(table, LABEL, task.classes)
    probabilities = _probabilities(table, task)
    score = _numbers(table, task.score) if task.score in table.column_names else None
    score = -score if score is not None and task.reversed else score
    answer = _codes(table, task.answer, task.classes)
    if not task.answer and probabilities is not None:
        answer = np.where(np.isfinite(probabilities).all(axis=1), probabilities.argmax(axis=1), NOT_KNOWN)
    return Judged(task, moments, _known(known_at, moments, truth != NOT_KNOWN), truth, answer, probabilities, score)


def held_out(document: Mapping[str, Any] | None, task: Task) -> Judged | None:
    """Rows that were held out of training (see `modelyard.bundle.holdout`), judged as live ones are; None without any.

    >>> document = {"label": [1, 0], "answers": {"predict": [1, 1], "proba": [[0.2, 0.8], [0.4, 0.6]]}}
    >>> task = Task(aim=Aim.BINARY, answer="predict", classes=(0, 1), probabilities=("p_0", "p_1"), together="proba")
    >>> held_out(document, task).probabilities.tolist()
    [[0.2, 0.8], [0.4, 0.6]]
    """
    if document is None:
        return None
    columns: dict[str, Any] = {LABEL: document["label"], "time": np.zeros(len(document["label"]), "datetime64[us]")}
    for name, values in document["answers"].items():
        lists = bool(values) and isinstance(values[0], list)
        columns[name] = [msgspec.json.encode(each).decode() for each in values] if lists else values
    return judge(pa.table(columns), task)


def strangers(table: pa.Table, task: Task) -> dict[str, int]:
    """Labels that are no class of the model, commonest first, with how often they occur; at most 20 are named."""
    if task.aim is Aim.REGRESSION or LABEL not in table.column_names:
        return {}
    odd = _codes(table, LABEL, task.classes) == NO_CLASS
    found = Counter(map(str, table[LABEL].filter(pa.array(odd)).to_pylist()))
    return dict(found.most_common(20))


def _moments(table: pa.Table) -> NDArray[np.datetime64]:
    arrived = _times(table, "time")
    if "event_time" not in table.column_names:
        return arrived
    said = _times(table, "event_time")
    return np.where(np.isnat(said), arrived, said)


def _times(table: pa.Table, name: str) -> NDArray[np.datetime64]:
    if name not in table.column_names:
        return np.full(table.num_rows, _NAT)
    column = table[name]
    if pa.types.is_timestamp(column.type) and column.type.tz:
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
        return _plain(column.cast(pa.timestamp("us")))
    return _plain(column.cast(pa.timestamp("us"), safe=False))


def _plain(column: pa.ChunkedArray) -> Array:
    found: Array = column.to_numpy().astype("datetime64[us]")
    return found


def _known(known_at: Array, moments: Array, there: Array) -> Array:
    """When each label became known. One that does not say was known at once; one that is not there, never."""
    return np.where(there, np.where(np.isnat(known_at), moments, known_at), _NAT)


def _numbers(table: pa.Table, name: str) -> Array:
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _read_numbers(column)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    found: Array = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
    return found


def _read_numbers(column: pa.ChunkedArray) -> Array:
    """Texts as the numbers that they are; NaN where they are none."""
    encoded = _encoded(column)
    values = np.array([_number(each) for each in encoded.dictionary.to_pylist()] or [np.nan])
    positions = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return np.where(positions >= 0, values[positions], np.nan)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _codes(table: pa.Table, name: str, classes: tuple[Scalar, ...]) -> Array:
    """Positions in `classes` of a column's values."""
    if name not in table.column_names:
        return np.full(table.num_rows, NOT_KNOWN, dtype=np.int64)
    known = _spellings(classes)
    encoded = _encoded(table[name])
    codes = [_code(value, known) for value in encoded.dictionary.to_pylist()]
    positions = encoded.indices.fill_null(len(codes)).to_numpy(zero_copy_only=False)
    found: Array = np.array([*codes, NOT_KNOWN], dtype=np.int64)[positions]
    return found


def _encoded(column: pa.ChunkedArray) -> Any:
    found = column.combine_chunks()
    if isinstance(found, pa.ChunkedArray):
        found = pa.concat_arrays(found.chunks) if found.num_chunks else pa.array([], found.type)
    return found if pa.types.is_dictionary(found.type) else pc.dictionary_encode(found)


def _spellings(classes: tuple[Scalar, ...]) -> dict[str, int]:
    known: dict[str, int] = {}
    for code, label in enumerate(classes):
        spelled = ["true" if label else "false", "True" if label else "False"] if isinstance(label, bool) else []
        for each in (_canonical(label), *spelled):
            known.setdefault(each, code)
    return known


def _canonical(value: Any) -> str:
    """Numbers that are equal are written alike, whatever their type; true is 1."""
    if isinstance(value, str):
        return value
    number = float(value)
    return str(int(number)) if number.is_integer() else repr(number)


def _code(value: Any, known: dict[str, int]) -> int:
    if value is None or value != value:
        return NOT_KNOWN
    text = _canonical(value)
    if text in known:
        return known[text]
    if isinstance(value, bool):
        return known.get(str(value).lower(), NO_CLASS)
    number = _number(text)
    return known.get(_canonical(number), NO_CLASS) if np.isfinite(number) else NO_CLASS


def _probabilities(table: pa.Table, task: Task) -> Array | None:
    """A column a class. Where the named columns are missing or empty, the list of all of them is read."""
    if not task.probabilities and not task.together:
        return None
    found = np.full((table.num_rows, len(task.classes)), np.nan)
    if task.probabilities and all(name in table.column_names for name in task.probabilities):
        found = np.column_stack([_numbers(table, name) for name in task.probabilities])
    if task.together not in table.column_names:
        return found
    lists = _lists(table[task.together], len(task.classes))
    lists = lists[:, ::-1] if task.reversed else lists
    return np.where(np.isnan(found), lists, found)


def _lists(column: pa.ChunkedArray, width: int) -> Array:
    decode: Any = msgspec.json.Decoder(list[float | None] | float | None)
    rows = np.full((len(column), width), np.nan)
    for at, text in enumerate(column.to_pylist()):
        if not isinstance(text, str):
            continue
        try:
            value = decode.decode(text)
        except msgspec.MsgspecError:  # something else than numbers: no probabilities
            continue
        if isinstance(value, list) and len(value) == width:
            rows[at] = [np.nan if each is None else each for each in value]
        elif isinstance(value, float) and width == 2:
            rows[at] = 1 - value, value
    return rows
