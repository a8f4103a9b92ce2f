"""What a model takes and what it answers: named, typed columns and outputs."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import numpy as np

Scalar: TypeAlias = bool | int | float | str
"""A value that JSON can carry and a class label or category can be."""


class Kind(StrEnum):
    """The type of a value on every border, whatever the library on the other side calls it."""

    BOOL = "bool"
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    UINT8 = "uint8"
    UINT16 = "uint16"
    UINT32 = "uint32"
    UINT64 = "uint64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    STRING = "string"
    DATETIME = "datetime"
    """Nanoseconds since 1970 (UTC where the column has a time zone); ISO 8601 text on the wire."""

    @property
    def is_integer(self) -> bool:
        """Whether values are whole numbers of limited size."""
        return self.value.startswith(("int", "uint"))

    @property
    def is_float(self) -> bool:
        """Whether values are binary floating point."""
        return self.value.startswith("float")

    @property
    def numpy(self) -> np.dtype[Any]:
        """The dtype of a `Vector`'s values: objects for strings, ``datetime64[ns]`` for datetimes.

        >>> Kind.INT8.numpy, Kind.STRING.numpy
        (dtype('int8'), dtype('O'))
        """
        if self is Kind.STRING:
            return np.dtype(object)
        return np.dtype("datetime64[ns]") if self is Kind.DATETIME else np.dtype(self.value)


OIP_DATATYPE = {kind: kind.value.upper() for kind in Kind} | {
    Kind.FLOAT32: "FP32",
    Kind.FLOAT64: "FP64",
    Kind.STRING: "BYTES",
    Kind.DATETIME: "BYTES",
}
"""Open Inference Protocol name of each kind."""

Layout: TypeAlias = Literal["dataframe", "array", "series", "tensors"]
"""How training handed rows to the estimator.

``dataframe``: a pandas DataFrame with the schema's columns in order. ``array``: one column of shape ``(d,)``
that becomes an array of shape ``(rows, d)``. ``series``: one column handed over as a 1-D array of values
(texts to a vectoriser). ``tensors``: named arrays, as a finished ONNX graph takes them.
"""

Missing: TypeAlias = Literal["nan", "none", "NA", "NaT"]
"""The marker that training had for a missing value: float NaN, None, ``pandas.NA`` or NaT."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What training saw in a column: no raw rows.

    `categories` lists the distinct values of a string, boolean or categorical column, most frequent first,
    at most 255 of them; `distinct` counts them all.
    """

    rows: int = 0
    missing_share: float = 0.0
    minimum: float | str | None = None
    maximum: float | str | None = None
    categories: tuple[Scalar, ...] | None = None
    distinct: int | None = None


@dataclass(frozen=True, slots=True)
class Accepts:
    """What the estimator takes, found by asking it; every runtime refuses the rest with the same words.

    `minimum` and `maximum` bound finite numbers (None: unbounded); `infinite` tells whether infinities are taken;
    `categories`, when not None, is the complete set of values that do not make the estimator raise.
    """

    minimum: float | None = None
    maximum: float | None = None
    infinite: bool = False
    categories: tuple[Scalar, ...] | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """One input column.

    `dtype` is how the training table typed it (``float64``, ``Int64``, ``str``, ``object``, ``category``,
    ``datetime64[ns, UTC]`` ...), so that it is given back the same; `categories` and `ordered` describe a pandas
    categorical; `shape` is empty for a plain column and the trailing dimensions for a tensor (-1: any).
    """

    name: str
    kind: Kind
    nullable: bool
    dtype: str
    missing: Missing = "nan"
    shape: tuple[int, ...] = ()
    categories: tuple[Scalar, ...] | None = None
    ordered: bool = False
    accepts: Accepts = field(default_factory=Accepts)
    seen: Seen = field(default_factory=Seen)


OutputRole: TypeAlias = Literal["label", "probability", "score", "value", "features"]
"""What an output means. ``label``: a class, cluster or in/outlier mark; ``probability``: per class, sums to one;
``score``: a decision function; ``value``: a regression or any callable's number; ``features``: a transform."""


@dataclass(frozen=True, slots=True)
class Output:
    """One named answer.

    `method` is what was called to get it (``predict``, ``predict_proba``, ``__call__``, ``transform`` ...) and `part`
    which piece of what it returned (a column of a DataFrame, a key of a dict, an index of a list; None: all of it).
    `shape` has the trailing dimensions. `classes` names the last axis of probabilities and scores, and lists
    the possible labels of a label output, as they were in training. `container` and `dtype` say what the
    method returned, so that a client can give back the same.
    """

    name: str
    kind: Kind
    role: OutputRole
    method: str
    part: str | int | None = None
    shape: tuple[int, ...] = ()
    classes: tuple[Scalar, ...] | None = None
    container: Literal["ndarray", "series", "dataframe", "list", "dict"] = "ndarray"
    dtype: str = "float64"


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Schema:
    """Input columns in order, and outputs in order."""

    layout: Layout
    columns: tuple[Column, ...]
    outputs: tuple[Output, ...]

    def column(self, name: str) -> Column:
        """The column of that name; KeyError if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def output(self, name: str) -> Output:
        """The output of that name; KeyError if there is none."""
        for output in self.outputs:
            if output.name == name:
                return output
        raise KeyError(name)

    def is_written_like(self, other: Schema) -> bool:
        """Whether requests and answers of both are written alike, whatever values their training data had.

        >>> from dataclasses import replace
        >>> column = Column("age", Kind.FLOAT64, nullable=True, dtype="float64")
        >>> schema = Schema("dataframe", (column,), ())
        >>> schema.is_written_like(replace(schema, columns=(replace(column, seen=Seen(rows=100)),)))
        True
        >>> schema.is_written_like(replace(schema, columns=(replace(column, kind=Kind.STRING),)))
        False
        """
        return (self.layout, self._written, self.outputs) == (other.layout, other._written, other.outputs)

    @property
    def _written(self) -> list[tuple[str, Kind, tuple[int, ...]]]:
        return [(column.name, column.kind, column.shape) for column in self.columns]


Made = TypeVar("Made")


class PerSchema(Generic[Made]):
    """What is made once for each schema, and kept as long as the schema is in use. Safe to call from several threads.

    Schemas are immutable, so their identity tells them apart. What is made must not hold on to its schema.

    >>> width = PerSchema(lambda schema: len(schema.columns))
    >>> width(Schema("dataframe", (), ()))
    0
    """

    def __init__(self, make: Callable[[Schema], Made]) -> None:
        self._make = make
        self._made: dict[int, tuple[weakref.ref[Schema], Made]] = {}

    def __call__(self, schema: Schema) -> Made:
        """What was made for `schema`, made now if it was not yet."""
        found = self._made.get(id(schema))
        if found is not None and found[0]() is schema:
            return found[1]
        made, name = self._make(schema), id(schema)

        def forget(gone: weakref.ref[Schema]) -> None:
            # A later schema may have been given the same identity.
            kept = self._made.get(name)
            if kept is not None and kept[0] is gone:
                del self._made[name]

        self._made[name] = (weakref.ref(schema, forget), made)
        return made

    def __len__(self) -> int:
        return len(self._made)
