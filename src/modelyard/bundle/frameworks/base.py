"""What a framework adapter offers, and how any return value becomes named outputs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from modelyard.domain.schema import Column, Kind, Output, OutputRole, Scalar
from modelyard.errors import CannotPack
from modelyard.runtime.host import answers

Container: TypeAlias = Literal["ndarray", "series", "dataframe", "list", "dict"]

NativeFormat: TypeAlias = Literal["skops", "cloudpickle", "onnx"]


class Framework(Protocol):
    """One library's estimators. An adapter is found through the entry points ``modelyard.frameworks``."""

    name: str
    """The word for it in manifests and messages."""

    formats: tuple[NativeFormat, ...]
    """How its estimators can be written, the preferred way first."""

    def handles(self, estimator: Any) -> bool:
        """Whether this adapter knows `estimator`. It must not import its library to find out."""
        ...

    def title(self, estimator: Any) -> str:
        """What to call `estimator` on a model card: its class, or the function's name."""
        ...

    def describe(self, estimator: Any, sample: Any, columns: Sequence[Column]) -> tuple[Output, ...]:
        """What `estimator` answers, learnt by calling it on `sample`, a few rows as training had them.

        Raises:
            CannotPack: it raises on them, or answers what no output can carry.
        """
        ...


def ask_once(name: str, call: Any, sample: Any) -> Any:
    """What `call` returns for `sample`.

    Raises:
        CannotPack: with the exception that it raised.
    """
    try:
        with warnings.catch_warnings():
            # Where warnings are errors, as in many tests, one of the library's own would look like a refusal.
            warnings.simplefilter("ignore")
            return call(sample)
    except Exception as raised:
        raise CannotPack(
            f"{name} raised on the first rows of the sample: {answers.describe(raised)}; "
            "the sample has to be rows as the estimator takes them, without the target column"
        ) from raised


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an adapter knows of a method's answer beyond its numbers.

    `classes` are the labels in the order of the last axis; a list of them where the method answers one array
    for each target.
    """

    role: OutputRole
    classes: Any = None


def outputs_of(method: str, name: str, returned: Any, rows: int, meaning: Meaning) -> tuple[Output, ...]:
    """The outputs in what `method` returned for `rows` rows; `name` names them.

    A DataFrame, a dict or a list of arrays becomes one output for each part, anything else one output.

    >>> outputs_of("predict", "predict", np.array(["late", "on time"]), 2, Meaning("label"))[0].kind.value
    'string'
    """
    container = container_of(returned, rows)
    whole = Output(name=name, kind=Kind.FLOAT64, role=meaning.role, method=method, container=container)
    if container in ("ndarray", "series") or not _has_parts(returned, rows):
        return (_typed(whole, returned, rows, meaning.classes),)
    parts = _parts(returned, method)
    prefix = "" if method == "__call__" else f"{name}_"
    return tuple(
        _typed(replace(whole, name=f"{prefix}{part}", part=part), value, rows, _classes_of_part(meaning.classes, part))
        for part, value in parts.items()
    )


def container_of(returned: Any, rows: int) -> Container:
    """What kind of thing a method returned, as a client gives it back."""
    if isinstance(returned, Mapping):
        return "dict"
    if isinstance(returned, (list, tuple)):
        return "list"
    if hasattr(returned, "columns") and hasattr(returned, "iloc"):
        return "dataframe"
    return "series" if hasattr(returned, "iloc") else "ndarray"


def _has_parts(returned: Any, rows: int) -> bool:
    """Whether it consists of several arrays; a list of one plain value a row is a single column."""
    if not isinstance(returned, (list, tuple)):
        return True
    return (
        len(returned) > 0
        and all(np.ndim(part) > 0 and len(part) == rows for part in returned)
        and (len(returned) != rows or any(hasattr(part, "dtype") and np.ndim(part) > 1 for part in returned))
    )


def _parts(returned: Any, method: str) -> dict[Any, Any]:
    if isinstance(returned, (list, tuple)):
        return dict(enumerate(returned))
    if isinstance(returned, Mapping):
        named = {key: returned[key] for key in returned}
    else:
        named = {key: returned[key] for key in returned.columns} if returned.columns.is_unique else {}
    if not named or not all(isinstance(key, str) for key in named):
        raise CannotPack(f"{method} answers a table whose columns are {list(returned)!r}; each needs its own text name")
    return named


def _classes_of_part(classes: Any, part: str | int) -> Any:
    if isinstance(classes, list) and isinstance(part, int) and part < len(classes):
        return classes[part]
    return None


def _typed(output: Output, value: Any, rows: int, classes: Any) -> Output:
    """`output` with what the value shows: kind, shape, dtype and the classes that fit it."""
    what = f"{output.method} answers" if output.part is None else f"{output.method} answers in {output.part!r}"
    array = answers.as_array(value)
    if array.ndim == 0 or len(array) != rows:
        raise CannotPack(f"{what} an array of shape {array.shape} for {rows} rows; one answer a row is needed")
    named = str(getattr(value, "dtype", array.dtype))
    kind = Kind.FLOAT64 if named.startswith(_NULLABLE_INTEGERS) else kind_of(array, what)
    labels = None if classes is None or isinstance(classes, list) else as_scalars(classes)
    if labels is not None and not _fits(labels, output.role, array.shape):
        labels = None
    return replace(output, kind=kind, shape=array.shape[1:], classes=labels, dtype=named)


def _fits(labels: tuple[Scalar, ...], role: OutputRole, shape: tuple[int, ...]) -> bool:
    """Whether labels name what the output holds: labels themselves, one score for two classes, or the last axis."""
    if role == "label":
        return True
    return (role == "score" and len(labels) == 2) if len(shape) == 1 else len(labels) == shape[-1]


def as_scalars(values: Any) -> tuple[Scalar, ...] | None:
    """Class labels as plain Python values of one type; None if they are anything else.

    >>> as_scalars(np.array([0, 1])), as_scalars(np.array(["no", "yes"]))
    ((0, 1), ('no', 'yes'))
    """
    plain = tuple(value.item() if isinstance(value, np.generic) else value for value in np.asarray(values).ravel())
    one_type = len({type(value) for value in plain}) == 1
    return plain if one_type and isinstance(plain[0], (bool, int, float, str)) else None


_NULLABLE_INTEGERS = ("Int", "UInt")
"""Dtypes of pandas whose next answer may have a missing value, which only floats can carry."""

_KINDS = {"b": Kind.BOOL, "U": Kind.STRING, "M": Kind.DATETIME}


def kind_of(array: Any, what: str) -> Kind:
    """The kind that carries an array's values.

    Raises:
        CannotPack: no kind does.

    >>> kind_of(np.array([1, 2], dtype=object), "it").value
    'int64'
    """
    code = array.dtype.kind
    if code in _KINDS:
        return _KINDS[code]
    if code == "f":
        return Kind.FLOAT32 if array.dtype.itemsize <= 4 else Kind.FLOAT64
    if code in "iu":
        return Kind(array.dtype.name)
    if code == "O":
        return _kind_of_objects(array, what)
    raise CannotPack(f"{what} {array.dtype}; outputs can be numbers, booleans, texts or datetimes")


def _kind_of_objects(array: Any, what: str) -> Kind:
    values = [value for value in array.ravel().tolist() if not answers.is_missing(value)]
    types = {type(value) for value in values}
    complete = len(values) == array.size
    if types and all(issubclass(kind, str) for kind in types):
        return Kind.STRING
    if all(issubclass(kind, (bool, np.bool_)) for kind in types) and types and complete:
        return Kind.BOOL
    if all(issubclass(kind, (int, np.integer)) and kind is not bool for kind in types) and types and complete:
        return Kind.INT64
    if all(issubclass(kind, (int, float, np.number)) for kind in types):
        return Kind.FLOAT64
    named = ", ".join(sorted(kind.__name__ for kind in types))
    raise CannotPack(f"{what} objects of mixed types ({named}); outputs can be numbers, booleans, texts or datetimes")
