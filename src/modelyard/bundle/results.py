"""From answers back to what the estimator's method would have returned: same container, dtype and index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from modelyard.domain.frame import Answers, Array
from modelyard.domain.schema import Output, Schema
from modelyard.errors import InvalidRequest

if TYPE_CHECKING:
    import pandas as pd

CALL = "__call__"
"""The method name of outputs that a plain function gave."""


def outputs_of(schema: Schema, method: str) -> tuple[Output, ...]:
    """The outputs that `method` returns; a plain function answers to ``predict``.

    Raises:
        InvalidRequest: the model has no such method; the message lists those it has.
    """
    methods = list(dict.fromkeys(output.method for output in schema.outputs))
    chosen = CALL if method == "predict" and method not in methods else method
    if chosen not in methods:
        has = ", ".join("predict" if known == CALL else known for known in methods)
        raise InvalidRequest(f"this model has no {method}; it answers to: {has}")
    return tuple(output for output in schema.outputs if output.method == chosen)


def index_of(data: object) -> pd.Index | None:
    """The row labels of a pandas table or column; None for anything else."""
    index = getattr(data, "index", None)
    return None if index is None or callable(index) else index


def returned(outputs: Sequence[Output], answers: Answers, index: pd.Index | None = None) -> Any:
    """What the method behind `outputs` (all of one method) would have returned for these `answers`.

    `index` labels the rows of a Series or DataFrame; arrays, lists and dicts of arrays have none.

    >>> from modelyard.domain.schema import Kind
    >>> label = Output("predict", Kind.STRING, "label", "predict", dtype="<U4", classes=("late", "ok"))
    >>> returned([label], {"predict": np.array(["ok", "late"], dtype=object)})
    array(['ok', 'late'], dtype='<U4')
    """
    first = outputs[0]
    if len(outputs) == 1 and first.part is None:
        return _whole(first, answers[first.name], index)
    if first.container == "dataframe":
        return _frame(outputs, answers, index)
    parts = {output.part: _part(output, answers[output.name]) for output in outputs}
    return list(parts.values()) if first.container == "list" else parts


def typed_array(values: Array, dtype: str) -> Array:
    """`values` as the numpy dtype that training saw; texts are never cut to its width.

    >>> typed_array(np.array(["early"], dtype=object), "<U2")
    array(['early'], dtype='<U5')
    """
    wanted = np.dtype(dtype)
    if wanted.kind != "U":
        return values.astype(wanted, copy=False)
    texts = values.astype(str)
    return texts.astype(np.result_type(texts.dtype, wanted))


def _whole(output: Output, values: Array, index: pd.Index | None) -> Any:
    if output.container == "series":
        return _series(values, output.dtype, index)
    if output.container == "dataframe":
        import pandas as pd

        columns = None if output.classes is None else list(output.classes)
        return pd.DataFrame(typed_array(values, output.dtype), index=index, columns=columns)
    if output.container == "list":
        return (values.astype("datetime64[us]") if values.dtype.kind == "M" else values).tolist()
    return typed_array(values, output.dtype)


def _part(output: Output, values: Array) -> Any:
    """One array among several; a dtype that only pandas has makes it a column."""
    try:
        return typed_array(values, output.dtype)
    except TypeError:
        return _series(values, output.dtype, None)


def _frame(outputs: Sequence[Output], answers: Answers, index: pd.Index | None) -> pd.DataFrame:
    import pandas as pd

    columns = [_series(answers[output.name], output.dtype, index) for output in outputs]
    table = pd.DataFrame(dict(enumerate(columns)), index=index)
    table.columns = pd.Index([output.part for output in outputs])
    return table


def _series(values: Array, dtype: str, index: pd.Index | None) -> pd.Series[Any]:
    import pandas as pd

    wanted = pd.api.types.pandas_dtype(dtype)
    if isinstance(wanted, pd.DatetimeTZDtype):
        moments = pd.DatetimeIndex(values).tz_localize("UTC").tz_convert(wanted.tz).as_unit(wanted.unit)
        return pd.Series(moments, index=index)
    # Left to itself pandas takes objects for texts, in which None becomes NaN.
    return pd.Series(values, index=index, dtype=values.dtype).astype(wanted)
