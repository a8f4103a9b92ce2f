"""Rows that a model is proven on: its input example, or a file that the user names, typed as the signature says.

This runs in the model's own environment, with its pandas.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelyard.errors import CannotPack

_NUMBERS = {"integer": "int32", "long": "int64", "float": "float32", "double": "float64"}
_NULLABLE = {"integer": "Int32", "long": "Int64"}


def rows(job: Mapping[str, Any]) -> Any:
    """The sample of a job: a table, an array, named arrays, or a list of values.

    Raises:
        CannotPack: there are no rows, or they do not fit the signature.
    """
    if job.get("sample"):
        given = _file(Path(job["sample"]))
    elif job.get("example"):
        given = _example(Path(job["example"]), job["example_info"])
    else:
        raise CannotPack(
            "the model has no input example, so there are no rows to prove it on: give some with --sample FILE (CSV, "
            "Parquet, JSON or .npy), as the model takes them; MLflow keeps them with log_model(..., input_example=X)"
        )
    return _typed(given, job["inputs"])


def _file(path: Path) -> Any:
    name = path.name.lower()
    try:
        if name.endswith((".csv", ".csv.gz")):
            return pd.read_csv(path)
        if name.endswith((".parquet", ".pq")):
            return pd.read_parquet(path)
        if name.endswith(".npy"):
            return np.load(path, allow_pickle=False)
        if name.endswith(".npz"):
            return dict(np.load(path, allow_pickle=False))
        if name.endswith(".json"):
            return _of_json(json.loads(path.read_text()), "split")
    except (ValueError, OSError, KeyError) as error:
        raise CannotPack(f"the sample {path.name} cannot be read: {error}") from None
    raise CannotPack(f"{path.name}: a sample is a file that ends with .csv, .parquet, .json, .npy or .npz")


def _example(path: Path, info: Mapping[str, Any]) -> Any:
    document = json.loads(path.read_text())
    kind = info.get("type")
    try:
        if kind in ("sparse_matrix_csr", "sparse_matrix_csc"):
            return _dense(document, kind)
        if kind == "ndarray":
            return _arrays(document)
        return _of_json(document, str(info.get("pandas_orient") or "split"))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CannotPack(f"the input example cannot be read: {type(error).__name__}: {error}") from None


def _dense(document: Mapping[str, Any], kind: str) -> Any:
    import scipy.sparse

    made = scipy.sparse.csr_matrix if kind == "sparse_matrix_csr" else scipy.sparse.csc_matrix
    return made((document["data"], document["indices"], document["indptr"]), shape=document["shape"]).toarray()


def _arrays(document: Any) -> Any:
    """Older releases write ``{"inputs": ...}``, as TensorFlow Serving takes it."""
    if isinstance(document, Mapping) and set(document) == {"inputs"}:
        document = document["inputs"]
    if isinstance(document, Mapping):
        return {str(name): np.asarray(value) for name, value in document.items()}
    return np.asarray(document)


def _of_json(document: Any, orient: str) -> Any:
    if isinstance(document, Mapping) and "data" in document and set(document) <= {"columns", "data", "index"}:
        return pd.DataFrame(document["data"], columns=document.get("columns"))
    if isinstance(document, Mapping):
        lists = [value for value in document.values() if isinstance(value, list)]
        return pd.DataFrame(document if len(lists) == len(document) else [document])
    if orient == "records" or (document and isinstance(document[0], Mapping)):
        return pd.DataFrame(document)
    return document


def _typed(given: Any, inputs: Sequence[Mapping[str, Any]] | None) -> Any:
    if not inputs:
        return given
    if inputs[0]["shape"] is not None:
        return _tensors(given, inputs)
    if isinstance(given, list) and len(inputs) == 1 and inputs[0]["name"] is None:
        return given
    table = given if isinstance(given, pd.DataFrame) else pd.DataFrame(given)
    if inputs[0]["name"] is None:
        return _unnamed(table, inputs)
    return _columns(table, inputs)


def _tensors(given: Any, inputs: Sequence[Mapping[str, Any]]) -> Any:
    if len(inputs) == 1 and inputs[0]["name"] is None:
        array = given.to_numpy() if isinstance(given, pd.DataFrame) else np.asarray(given)
        return array.astype(_dtype(inputs[0]["type"]))
    named = given if isinstance(given, Mapping) else {str(name): given[name].to_numpy() for name in given}
    missing = [one["name"] for one in inputs if one["name"] not in named]
    if missing:
        raise CannotPack(
            f"the sample has no {missing[0]!r}; the model takes {', '.join(one['name'] for one in inputs)}"
        )
    return {one["name"]: np.asarray(named[one["name"]]).astype(_dtype(one["type"])) for one in inputs}


def _dtype(name: str) -> Any:
    return object if name in ("str", "string", "object") else np.dtype(name)


def _unnamed(table: pd.DataFrame, inputs: Sequence[Mapping[str, Any]]) -> Any:
    if table.shape[1] != len(inputs):
        raise CannotPack(f"the sample has {table.shape[1]} columns; the model takes {len(inputs)}")
    typed = [_column(table.iloc[:, at], one["type"]) for at, one in enumerate(inputs)]
    made = pd.concat(typed, axis=1)
    made.columns = table.columns
    return made


def _columns(table: pd.DataFrame, inputs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    made = {}
    for one in inputs:
        name = one["name"]
        if name in table.columns:
            made[name] = _column(table[name], one["type"])
        elif one["required"]:
            raise CannotPack(f"the sample has no column {name!r}; it has: {', '.join(map(str, table.columns[:20]))}")
        else:
            made[name] = _column(pd.Series([None] * len(table), index=table.index, dtype=object), one["type"])
    return pd.DataFrame(made)


def _column(values: pd.Series[Any], kind: str) -> pd.Series[Any]:
    try:
        return _of_kind(values, kind)
    except (ValueError, TypeError, OverflowError) as error:
        raise CannotPack(f"column {values.name!r} of the sample is no {kind}, as the signature says: {error}") from None


def _of_kind(values: pd.Series[Any], kind: str) -> pd.Series[Any]:
    missing = bool(values.isna().any())
    if kind in _NUMBERS:
        dtype: Any = _NULLABLE.get(kind, _NUMBERS[kind]) if missing else _NUMBERS[kind]
        numbers: pd.Series[Any] = pd.to_numeric(values)
        typed: pd.Series[Any] = numbers.astype(dtype)
        if kind in _NULLABLE and not (typed == numbers)[numbers.notna()].all():
            raise ValueError("there are fractions or numbers too large in it")
        return typed
    if kind == "boolean":
        return values.astype("boolean" if missing else bool)
    if kind == "datetime":
        return _times(values)
    if all(isinstance(value, str) for value in values.dropna()):
        return values
    raise CannotPack(f"column {values.name!r} of the sample holds other things than texts; the signature says string")


def _times(values: pd.Series[Any]) -> pd.Series[Any]:
    made: Any = pd.to_datetime(values)
    typed: pd.Series[Any] = made if made.dt.tz is not None else made.astype("datetime64[ns]")
    return typed
