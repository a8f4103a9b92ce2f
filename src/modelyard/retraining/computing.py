"""What a version answers to recorded rows, computed anew by its own runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modelyard.bundle.layout import Bundle
from modelyard.bundle.runtimes import open_runtime
from modelyard.domain.frame import Answers, Frame
from modelyard.errors import RowsRefused
from modelyard.home import Home
from modelyard.monitoring.performance.judged import Judged, judge
from modelyard.monitoring.performance.task import Task
from modelyard.retraining.rows import Rows, read
from modelyard.runtime.interface import Runtime

_AT_ONCE = 5000


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """Answers of a version: `rows` are the positions of those that it answered, `frame` what it was asked."""

    rows: NDArray[np.intp]
    answers: Answers
    frame: Frame | None


def answers_to(bundle: Bundle, home: Home, documents: Sequence[dict[str, Any]]) -> Told:
    """The answers to recorded rows; rows that it refuses are left out.

    Raises:
        EnvironmentFailed, ModelFailed, RuntimeLost: it cannot be computed here.
    """
    frame, kept = read(documents, bundle.manifest.schema)
    if frame is None:
        return Told(kept, {}, None)
    parts: list[Answers] = []
    rows: list[int] = []
    runtime = open_runtime(bundle, home=home)
    try:
        for start in range(0, frame.rows, _AT_ONCE):
            _compute_into(frame, range(start, min(start + _AT_ONCE, frame.rows)), runtime, parts, rows)
    finally:
        runtime.close()
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
    return Told(kept[rows], whole, frame.take(np.array(rows, dtype=np.intp)))


def judged_of(told: Told, places: NDArray[np.intp], asked: Rows, task: Task, named: Task) -> Judged:
    """Answers at some `places` among those told, beside the truth of their rows.

    `named` is the task as the schema has it, `task` the same seen from the positive class that was chosen.
    """
    rows = told.rows[places]
    table = asked.table.take(pa.array(rows))
    for name, column in _columns({name: values[places] for name, values in told.answers.items()}, named).items():
        table = table.append_column(name, column) if name not in table.column_names else table
    return judge(table, task)


def _compute_into(frame: Frame, part: range, runtime: Runtime, parts: list[Answers], rows: list[int]) -> None:
    try:
        answers = runtime.predict(frame.take(slice(part.start, part.stop)))
    except RowsRefused:
        if len(part) > 1:
            middle = len(part) // 2
            _compute_into(frame, part[:middle], runtime, parts, rows)
            _compute_into(frame, part[middle:], runtime, parts, rows)
        return
    parts.append(answers)
    rows.extend(part)


def _columns(answers: Answers, task: Task) -> dict[str, pa.Array]:
    """Answers as the columns that a deployment's view would have."""
    found: dict[str, pa.Array] = {}
    for name, values in answers.items():
        if name == task.together and values.ndim == 2:
            found |= {column: pa.array(values[:, at]) for at, column in enumerate(task.probabilities)}
        elif values.ndim == 1 and name in (task.answer, task.score):
            found[name] = pa.array(values.tolist() if values.dtype == object else values)
        elif values.ndim == 2 and values.shape[1] == 1 and name in (task.answer, task.score):
            found[name] = pa.array(values[:, 0])
    return found
