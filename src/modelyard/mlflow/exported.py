"""Answers as a version of a model did when it was packed with Modelyard; MLflow loads this as a python_function.

A copy of this file travels with each exported model, with those that it imports beside it. It needs numpy, pandas and
what the model itself needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.runtime.host import answers, load, tables


def _load_pyfunc(path: str) -> Exported:
    """What MLflow calls with the folder that ``data`` names."""
    return Exported(Path(path))


class Exported:
    """The estimator as it was packed, behind MLflow's interface."""

    def __init__(self, folder: Path) -> None:
        self._facts = json.loads((folder / "version.json").read_text())
        load.stand_in_for_modelyard()
        load.apply(self._facts["native"]["settings"])
        self._estimator = load.estimator(self._facts["native"], folder)
        self._build = tables.builder(self._facts["layout"], self._facts["columns"])
        self._methods: list[str] = self._facts["methods"]

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        """What the estimator's ``predict`` answers, or another method of it: ``params={"method": "predict_proba"}``."""
        method = str((params or {}).get("method") or self._methods[0])
        if method not in self._methods:
            raise ValueError(f"this model has no method {method!r}; it has: {', '.join(self._methods)}")
        cells, rows = _cells(data, self._facts["layout"], self._facts["columns"])
        return answers.bound(self._estimator, method)(self._build(cells, rows))


def _cells(data: Any, layout: str, columns: Sequence[Mapping[str, Any]]) -> tuple[list[tables.Cells], int]:
    """Columns in the order of the schema with what is missing in them, and the number of rows."""
    if layout == "dataframe":
        parts = _of_table(data, columns)
    elif layout == "tensors":
        parts = [_tensor(data[column["name"]], column) for column in columns]
    elif layout == "series":
        parts = [_of_series(data, columns[0])]
    else:
        parts = [_tensor(data, columns[0])]
    return parts, len(parts[0][0])


def _of_table(data: Any, columns: Sequence[Mapping[str, Any]]) -> list[tables.Cells]:
    import pandas as pd

    table = data if isinstance(data, pd.DataFrame) else pd.DataFrame(data)
    by_text = {str(name): at for at, name in enumerate(table.columns)}
    lacking = [column["name"] for column in columns if column["name"] not in by_text]
    if lacking:
        raise ValueError(f"there is no column {lacking[0]!r}; the model takes: {', '.join(c['name'] for c in columns)}")
    return [_column(table.iloc[:, by_text[column["name"]]], column) for column in columns]


def _of_series(data: Any, column: Mapping[str, Any]) -> tables.Cells:
    import pandas as pd

    values = data.iloc[:, 0] if isinstance(data, pd.DataFrame) else pd.Series(np.asarray(data, dtype=object))
    return _column(values.infer_objects(), column)


def _column(values: Any, column: Mapping[str, Any]) -> tables.Cells:
    kind, gone = column["kind"], values.isna().to_numpy()
    if kind == "string":
        texts = values.to_numpy(dtype=object, copy=True)
        texts[gone] = None
        return texts, None
    if kind == "datetime":
        return _moments(values), None
    if kind.startswith("float"):
        return values.to_numpy(dtype=kind, na_value=np.nan), None
    filled = values.where(~gone, 0).to_numpy(dtype=object)
    return _exactly(filled, kind, column["name"]), (gone if gone.any() else None)


def _moments(values: Any) -> Any:
    import pandas as pd

    moments = pd.to_datetime(values)
    if moments.dt.tz is not None:
        moments = moments.dt.tz_convert("UTC").dt.tz_localize(None)
    return moments.to_numpy(dtype="datetime64[ns]")


def _exactly(values: Any, kind: str, name: str) -> Any:
    cast = values.astype(kind)
    if not (cast == values).all():
        raise ValueError(f"column {name!r} holds values that are no {kind}")
    return cast


def _tensor(values: Any, column: Mapping[str, Any]) -> tables.Cells:
    array = values.to_numpy() if hasattr(values, "to_numpy") else np.asarray(values)
    if column["kind"] == "string":
        return array.astype(object), None
    return array.astype("datetime64[ns]" if column["kind"] == "datetime" else column["kind"]), None
