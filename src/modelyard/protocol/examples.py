"""A request that a model takes, made up from its schema alone: nothing of what training saw is in it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from math import ceil, floor, prod
from typing import Any, Literal

from modelyard.domain.checks import check
from modelyard.domain.schema import OIP_DATATYPE, Column, Kind, Schema
from modelyard.errors import InvalidInput
from modelyard.protocol.table import TableReader
from modelyard.protocol.values import has_zone

Form = Literal["oip", "rows", "invocations", "csv"]


def examples(schema: Schema) -> dict[Form, Any]:
    """One row as a JSON document in each form, and as a text of CSV where its values are plain or one array.

    None at all where no row can be made up that fits. A model may still refuse it, if it takes less than its schema
    says.

    >>> schema = Schema("dataframe", (Column("age", Kind.INT64, nullable=False, dtype="int64"),), ())
    >>> examples(schema)["rows"], examples(schema)["oip"]["inputs"][0]["data"]
    ({'rows': [{'age': 1}]}, [1])
    """
    row = {column.name: _shaped(_value(column), column.shape) for column in schema.columns}
    reader = TableReader(schema)
    try:
        check(reader.records([row]), schema)
    except InvalidInput:
        return {}
    made: dict[Form, Any] = {
        "rows": {"rows": [row]},
        "oip": {"inputs": [_tensor(column) for column in schema.columns]},
        "invocations": {"dataframe_records": [row]},
    }
    table = _table(row, reader)
    return made if table is None else made | {"csv": table}


def _table(row: dict[str, Any], reader: TableReader) -> str | None:
    """The row as CSV; None where a column does not fit a cell."""
    if reader.single is not None:
        [values] = row.values()
        row = {f"x{at}": value for at, value in enumerate(values if type(values) is list else [values])}
    if any(type(value) is list for value in row.values()):
        return None
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([row, row.values()])
    return text.getvalue()


def _tensor(column: Column) -> dict[str, Any]:
    shape = [1, *map(abs, column.shape)]
    data = [_value(column)] * prod(shape)
    return {"name": column.name, "datatype": OIP_DATATYPE[column.kind], "shape": shape, "data": data}


def _shaped(value: Any, shape: Sequence[int]) -> Any:
    """The value, or nested lists full of it; a size that may be any (-1) is 1."""
    for size in reversed(shape):
        value = [value] * abs(size)
    return value


def _value(column: Column) -> Any:
    known = column.accepts.categories or column.categories
    if known:
        return known[0]
    if column.kind is Kind.BOOL:
        return True
    if column.kind is Kind.STRING:
        return "text"
    if column.kind is Kind.DATETIME:
        return "2024-01-31T12:00:00" + ("Z" if has_zone(column.dtype) else "")
    return _number(column)


def _number(column: Column) -> float | int:
    """1, or the number next to it that the model takes."""
    low, high = column.accepts.minimum, column.accepts.maximum
    whole = column.kind.is_integer
    number = 1.0
    if low is not None and low > number:
        number = ceil(low) if whole else low
    if high is not None and high < number:
        number = floor(high) if whole else high
    return int(number) if whole else number
