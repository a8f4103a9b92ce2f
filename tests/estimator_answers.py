"""What an estimator itself answers, row by row, and rows as a stranger writes them; none of it asks the product."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd

from estimator_zoo import CASES, Trained
from modelyard.bundle.pack import build_bundle

ASKED = ("predict", "predict_proba", "decision_function")
RTOL, ATOL = 1e-5, 1e-6
GOLDEN_ROWS = 24


@dataclass(frozen=True)
class Outcome:
    """One case after packing.

    `expected` has the answers of the estimator to each fresh row by itself (None where it raised), `returned` what its
    methods return for all rows that it answers.
    """

    digest: str
    fresh: Any
    expected: list[dict[str, Any] | None]
    returned: dict[str, Any]

    @property
    def answered(self) -> list[int]:
        return [row for row, answer in enumerate(self.expected) if answer is not None]

    @property
    def refused(self) -> list[int]:
        return [row for row, answer in enumerate(self.expected) if answer is None]


def packed_and_asked(name: str, into: Path) -> Outcome:
    """Train the case of that name, pack it, and ask the estimator itself about the fresh rows."""
    (case,) = (case for case in CASES if case.name == name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained = case.train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what the estimator says about odd rows must not reach the packer
        bundle = build_bundle(
            trained.estimator, sample=trained.sample, name=name, into=into, golden_rows=GOLDEN_ROWS, **trained.options
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [_one(trained, row) for row in range(rows_of(trained.fresh))]
        answered = take(trained.fresh, [row for row, answer in enumerate(expected) if answer is not None])
        returned = called(trained, answered)
    return Outcome(bundle.digest, trained.fresh, expected, returned)


def _one(trained: Trained, row: int) -> dict[str, Any] | None:
    try:
        found = answers(trained, take(trained.fresh, [row]))
    except Exception:  # noqa: BLE001 - an estimator may raise anything at a row that it cannot take
        return None
    return {name: values[0] for name, values in found.items()}


def rows_of(data: Any) -> int:
    """How many rows there are."""
    return len(next(iter(data.values()))) if isinstance(data, Mapping) else len(data)


def take(data: Any, rows: Sequence[int]) -> Any:
    """These rows, in the container and with the dtypes of `data`."""
    if isinstance(data, Mapping):
        return {name: part[list(rows)] for name, part in data.items()}
    if isinstance(data, list):
        return [data[row] for row in rows]
    return data.iloc[list(rows)] if hasattr(data, "iloc") else data[list(rows)]


def json_rows(data: Any) -> list[dict[str, Any]]:
    """One JSON object a row."""
    if isinstance(data, pd.DataFrame):
        names, columns = list(data.columns), [data[name] for name in data.columns]
        cells = [[plain(value) for value in column] for column in columns]
        return [dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True)]
    if isinstance(data, Mapping):
        return [{name: plain(part[row]) for name, part in data.items()} for row in range(rows_of(data))]
    name = data.name if isinstance(data, pd.Series) else "X"
    return [{name: plain(value)} for value in data]


def plain(value: Any) -> Any:
    """A value as JSON has it; what is missing is null."""
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value]
    if (
        value is None
        or value is pd.NA
        or value is pd.NaT
        or (isinstance(value, float | np.floating) and np.isnan(value))
    ):
        return None
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return value.item() if isinstance(value, np.generic) else value


def answers(trained: Trained, data: Any) -> dict[str, list[Any]]:
    """Every answer by its name on the wire, one plain value a row.

    Raises:
        Exception: what the estimator raises on these rows.
    """
    found: dict[str, list[Any]] = {}
    for method, value in called(trained, data).items():
        found |= _named(trained.estimator, method, value, rows_of(data))
    return found


def methods(estimator: Any) -> tuple[str, ...]:
    """What can be asked of an estimator; nothing of a function."""
    has = tuple(method for method in ASKED if hasattr(estimator, method))
    return has or tuple(method for method in ("transform",) if hasattr(estimator, method))


def called(trained: Trained, data: Any) -> dict[str, Any]:
    """What each method returned for `data`, or the function under the name ``output``."""
    estimator = trained.estimator
    if isinstance(estimator, Path):
        session = onnxruntime.InferenceSession(estimator)
        names = [output.name for output in session.get_outputs()]
        return {"": dict(zip(names, session.run(names, data), strict=True))}
    asked = methods(estimator)
    if asked:
        return {method: getattr(estimator, method)(data) for method in asked}
    if "load" in trained.options:
        artifacts = trained.options.get("artifacts")
        state = trained.options["load"](artifacts) if artifacts else trained.options["load"]()
        return {"": estimator(state, data)}
    return {"": estimator(data)}


def _named(estimator: Any, method: str, value: Any, rows: int) -> dict[str, list[Any]]:
    if isinstance(value, pd.DataFrame):
        return {_join(method, name): listed(value[name]) for name in value.columns}
    if isinstance(value, Mapping):
        return {_join(method, name): listed(part) for name, part in value.items()}
    if isinstance(value, list) and value and np.ndim(value[0]) == 2:
        return {_join(method, str(at)): listed(part, estimator.classes_[at]) for at, part in enumerate(value)}
    classes = getattr(estimator, "classes_", None) if method in ("predict_proba", "decision_function") else None
    return {method or "output": listed(value, None if isinstance(classes, list) else classes)}


def _join(method: str, part: str) -> str:
    return f"{method}_{part}" if method else part


def listed(value: Any, classes: Any = None) -> list[Any]:
    """Plain values by row; those of a probability or score by the name of the class."""
    array = value.toarray() if hasattr(value, "toarray") else np.asarray(value)
    leaves: list[Any] = [plain(row) for row in array]
    if classes is None or array.ndim != 2 or len(classes) != array.shape[1]:
        return leaves
    names = [str(label).lower() if isinstance(label, bool | np.bool_) else str(label) for label in classes]
    return [dict(zip(names, row, strict=True)) for row in leaves]


def same(expected: Any, got: Any) -> bool:
    """Whether two plain values say the same: numbers within the tolerance, anything else exactly."""
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        return expected.keys() == got.keys() and all(same(expected[key], got[key]) for key in expected)
    if isinstance(expected, list) and isinstance(got, list):
        return len(expected) == len(got) and all(map(same, expected, got))
    if isinstance(expected, bool) or isinstance(got, bool) or not isinstance(expected, float | int):
        return type(expected) is type(got) and bool(expected == got)
    if isinstance(expected, int):
        return isinstance(got, int) and got == expected
    if not isinstance(got, float | int):
        return got is None and not math.isfinite(expected)
    return math.isclose(expected, got, rel_tol=RTOL, abs_tol=ATOL)
