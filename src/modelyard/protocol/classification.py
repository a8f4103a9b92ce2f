"""The classification extension: the largest values of an output as texts, each with its position and its class.

An output that is asked for so becomes ``BYTES`` of shape ``[rows, count]``, largest first, each element
``<value>:<position>:<class>``. The value is written with as many digits as tell it from its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from modelyard.domain.frame import Answers, Array
from modelyard.domain.schema import Kind, Output, Scalar, Schema
from modelyard.errors import InvalidRequest
from modelyard.protocol.values import class_key, shown

PARAMETER = "classification"
"""The parameter of a requested output: how many classes are wanted; 0 for the output as it is."""


def wanted_classes(count: Any, output: Output) -> int:
    """How many classes of an output are wanted, as its parameter says.

    Raises:
        InvalidRequest: when it is not a whole number from 0, or the output has no value for each of several classes.

    >>> wanted_classes(2, Output("predict_proba", Kind.FLOAT64, "probability", "predict_proba", shape=(3,)))
    2
    """
    if type(count) is not int or count < 0:
        raise InvalidRequest(f"parameter {PARAMETER!r}: expected a whole number from 0, got {shown(count)}")
    if count and not (len(output.shape) == 1 and (output.kind.is_float or output.kind.is_integer)):
        raise InvalidRequest(
            f"output {output.name!r} has no number for each class that could be put in order; "
            f"ask for it without {PARAMETER!r}"
        )
    return count


def classified(answers: Answers, schema: Schema, counts: Sequence[tuple[str, int]]) -> tuple[Answers, Schema]:
    """The answers with those outputs as texts, and the schema that they then have.

    >>> proba = Output("proba", Kind.FLOAT64, "probability", "predict_proba", shape=(3,), classes=("no", "so", "yes"))
    >>> answers, _ = classified({"proba": np.array([[0.25, 0.0, 0.75]])}, Schema("array", (), (proba,)), [("proba", 2)])
    >>> answers["proba"].tolist()
    [['0.75:2:yes', '0.25:0:no']]
    """
    of = dict(counts)
    outputs = tuple(
        replace(output, kind=Kind.STRING, dtype="object", classes=None) if output.name in of else output
        for output in schema.outputs
    )
    texts = {
        name: _texts(array, schema.output(name).classes, of[name]) if name in of else array
        for name, array in answers.items()
    }
    return texts, replace(schema, outputs=outputs)


def is_classified(datatype: str, output: Output) -> bool:
    """Whether a tensor of that type holds an output's largest values as texts."""
    return datatype == "BYTES" and (output.kind.is_float or output.kind.is_integer)


def _texts(array: Array, classes: Sequence[Scalar] | None, count: int) -> Array:
    rows, width = array.shape
    # The first of equal values comes first, and no number last.
    order = np.argsort(-array.astype(np.float64), axis=1, kind="stable")[:, :count]
    labels = (
        [f":{class_key(one)}" for one in classes] if classes is not None and len(classes) == width else [""] * width
    )
    texts = np.empty(order.shape, dtype=object)
    for row, (values, places) in enumerate(zip(array.tolist(), order.tolist(), strict=True)):
        texts[row] = [f"{values[place]}:{place}{labels[place]}" for place in places]
    return texts.reshape(rows, -1) if rows else np.empty((0, min(count, width)), dtype=object)
