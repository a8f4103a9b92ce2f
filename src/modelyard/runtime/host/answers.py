"""Asking an estimator and reading what it returns as named flat arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

_LONGEST_MESSAGE = 2_000
_OWN_FAULTS = (ImportError, OSError, MemoryError, SystemError)
_NUMPY: dict[str, str] = {"string": "O", "datetime": "datetime64[ns]"}


class Refused(Exception):
    """The model raised on these rows."""


class Broken(Exception):
    """The model's code broke, or answered something else than it did in training."""


def ask(estimator: Any, outputs: Sequence[Mapping[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The function that calls `estimator` and gives the answers by output name.

    `outputs` are the schema's outputs as plain data. The function takes the estimator's own input, the number
    of rows and the names that are wanted (None: all), and raises `Refused` or `Broken`.

    >>> double = ask(lambda rows: rows * 2, [{"name": "y", "kind": "float64", "method": "__call__", "part": None}])
    >>> double(np.array([1.5]), 1)
    {'y': array([3.])}
    """
    return _Asker(estimator, outputs)


class _Asker:
    def __init__(self, estimator: Any, outputs: Sequence[Mapping[str, Any]]) -> None:
        self._outputs = list(outputs)
        self._names = [output["name"] for output in outputs]
        self._direct = {method: bound(estimator, method) for method in {output["method"] for output in outputs}}
        self._head, self._last = _split(estimator, self._direct)

    def __call__(self, given: Any, rows: int, wanted: Sequence[str] | None = None) -> dict[str, Any]:
        outputs = self._outputs if wanted is None else [out for out in self._outputs if out["name"] in wanted]
        methods = dict.fromkeys(output["method"] for output in outputs)
        try:
            returned = self._returned(given, methods)
        except Exception as raised:
            raise classify(raised) from raised
        try:
            return {output["name"]: read(returned[output["method"]], output, rows) for output in outputs}
        except Broken:
            raise
        except Exception as raised:
            raise Broken(f"its answer could not be read: {describe(raised)}") from raised

    def _returned(self, given: Any, methods: Mapping[str, None]) -> dict[str, Any]:
        if self._head is None or len(methods) == 1:
            return {method: self._direct[method](given) for method in methods}
        prepared = self._head(given)
        return {method: self._last[method](prepared) for method in methods}


def bound(estimator: Any, method: str) -> Any:
    """What to call for a method's answer: the method, the estimator itself, or a way around XGBoost's own matrix."""
    if method == "__call__":
        return estimator
    kind = type(estimator)
    if (kind.__module__, kind.__qualname__) == ("xgboost.core", "Booster") and method == "predict":
        import xgboost

        return lambda given: estimator.predict(xgboost.DMatrix(given, enable_categorical=True))
    return getattr(estimator, method)


def _split(estimator: Any, methods: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A scikit-learn pipeline as its transformation and its last step, so that several methods share the first.

    Only for the class itself: a subclass may do something else. Otherwise None.
    """
    kind = type(estimator)
    if (kind.__module__, kind.__qualname__) != ("sklearn.pipeline", "Pipeline") or len(methods) < 2:
        return None, {}
    if len(estimator.steps) < 2 or "transform" in methods:
        return None, {}
    last = estimator.steps[-1][1]
    return estimator[:-1].transform, {method: bound(last, method) for method in methods}


def classify(raised: Exception) -> Refused | Broken:
    """What an exception of the model says: of its rows, or of itself.

    Nearly everything can come from a row that does not suit the code (an AttributeError from a text method
    on None, a RuntimeError from a tensor library). What clearly does not: a failed import, file access, memory.

    >>> classify(ValueError("could not convert string to float: 'x'"))
    Refused("ValueError: could not convert string to float: 'x'")
    """
    return (Broken if isinstance(raised, _OWN_FAULTS) else Refused)(describe(raised))


def describe(raised: BaseException) -> str:
    """The exception in one line of text, without memory addresses, which differ from run to run."""
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", f"{type(raised).__name__}: {raised}")
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}..."


def read(returned: Any, output: Mapping[str, Any], rows: int) -> Any:
    """One output out of what its method returned, as an array of shape ``(rows, *shape)`` of the output's kind.

    Raises:
        Broken: another number of rows, another shape or another type than in training.
    """
    array = as_kind(part_of(returned, output.get("part")), output["kind"])
    shape = tuple(output.get("shape") or ())
    got = array.shape[1:]
    fits = len(got) == len(shape) and all(want in (-1, have) for want, have in zip(shape, got, strict=True))
    if array.ndim == 0 or len(array) != rows or not fits:
        raise Broken(
            f"{output['method']} answered an array of shape {array.shape} for output {output['name']!r}; "
            f"expected {(rows, *shape)}"
        )
    return array


def part_of(returned: Any, part: str | int | None) -> Any:
    """A column of a DataFrame, a key of a dict, an index of a list; with None all of it."""
    if part is None:
        return returned
    if isinstance(returned, (list, tuple, dict)):
        return returned[part]  # type: ignore[index, call-overload, unused-ignore]
    if hasattr(returned, "columns"):
        return returned[part] if part in returned.columns else _column_by_text(returned, part)
    return returned[part]


def _column_by_text(table: Any, part: str | int) -> Any:
    names = [str(name) for name in table.columns]
    if str(part) not in names:
        raise Broken(f"the answer has no column {part!r}; it has: {', '.join(names)}")
    return table.iloc[:, names.index(str(part))]


def as_array(value: Any) -> Any:
    """Anything array-like as a numpy array: sparse matrices dense, tables by value, texts and NA as objects."""
    if hasattr(value, "toarray"):
        value = value.toarray()
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
    if hasattr(value, "to_numpy"):
        return _from_pandas(value)
    return np.asarray(value)


def _from_pandas(value: Any) -> Any:
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "tz", None) is not None:
        return value.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
    array = value.to_numpy()
    return array if isinstance(array, np.ndarray) else np.asarray(array)


def as_kind(value: Any, kind: str) -> Any:
    """`value` as an array of the numpy type of `kind`, never losing anything.

    Raises:
        Broken: a text where a number was expected, a fraction where an integer was, and the like.
    """
    array = as_array(value)
    target = np.dtype(_NUMPY.get(kind, kind))
    if array.dtype == target and kind != "string":
        return array
    if kind == "string":
        return _texts(array)
    if kind == "datetime":
        return array.astype(target)
    if target.kind == "f":
        return _floats(array, target)
    return _exactly(array, target)


def _texts(array: Any) -> Any:
    if array.dtype.kind in "US":
        return array.astype(str).astype(object)
    boxed = array.astype(object)
    flat = [_text(value) for value in boxed.ravel().tolist()]
    texts = np.empty(len(flat), dtype=object)
    texts[:] = flat
    return texts.reshape(boxed.shape)


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return str(value)
    if is_missing(value):
        return None
    raise Broken(f"answered {value!r} ({type(value).__name__}) where training answered a text")


def is_missing(value: Any) -> bool:
    """Whether a Python object stands for a missing value: None, NaN, ``pandas.NA`` or NaT."""
    if isinstance(value, float):
        return value != value
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _floats(array: Any, target: Any) -> Any:
    if array.dtype.kind == "O":
        values = array.ravel().tolist()
        _check_whole(values, target)
        array = np.array([np.nan if is_missing(value) else value for value in values], dtype=np.float64).reshape(
            array.shape
        )
    if array.dtype.kind not in "fiub":
        raise Broken(f"answered {array.dtype} where training answered {target}")
    if array.dtype.kind in "iu":
        _check_whole(array.ravel().tolist(), target)
    return array.astype(target)


def _check_whole(values: Sequence[Any], target: Any) -> None:
    """Whole numbers beside missing ones are carried as floats, which large ones do not survive."""
    for value in values:
        if isinstance(value, int) and not isinstance(value, bool) and int(target.type(value)) != value:
            raise Broken(f"answered {value}, which {target} cannot express; answer it as a text")


def _exactly(array: Any, target: Any) -> Any:
    if array.dtype.kind in "USM":
        raise Broken(f"answered {array.dtype} where training answered {target}")
    if array.dtype.kind == "O" and any(is_missing(value) or isinstance(value, str) for value in array.ravel()):
        raise Broken(f"answered a missing value or a text where training answered {target}")
    cast = array.astype(target)
    if not np.array_equal(cast, array):
        raise Broken(f"answered {array.dtype} values that {target} cannot express, as training did")
    return cast
