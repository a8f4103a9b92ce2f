"""Rows held out of training: what was true of them beside what the version answers. How good it is, as training saw it.

Only truths and answers are kept, no inputs. Monitoring holds live answers against them, so that a version that is worse
than it was in training from its first day on is told.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from modelyard.bundle.drawing import mixed_rows
from modelyard.bundle.native import InProcess
from modelyard.bundle.schema import sample_frame
from modelyard.domain.checks import offences
from modelyard.domain.frame import Array
from modelyard.domain.schema import Schema
from modelyard.errors import CannotPack, Failed, ModelyardError

FILE = "holdout.json"
MOST = 10_000
"""Of more rows so many are taken, spread evenly: the error of a share is then half a percent at most."""

_CHUNK = 1_000


def held_out(asked: InProcess, holdout: Any, schema: Schema) -> bytes:
    """The file of a bundle for ``(rows, truths)``: as JSON, ``label`` and, by output, ``answers``; null is NaN.

    Raises:
        CannotPack: it is no such pair, lengths differ, a truth is missing, or the estimator refuses a row.
    """
    inputs, truths = _pair(holdout)
    try:
        frame = sample_frame(inputs, schema.layout, schema.columns)
    except ModelyardError as error:
        raise CannotPack(f"the rows of the holdout are not as the sample is: {error}") from error
    if frame.rows != len(truths) or not frame.rows:
        raise CannotPack(f"the holdout has {frame.rows} rows and {len(truths)} truths; each row needs one")
    picked = mixed_rows(frame.rows, MOST)
    frame, truths = frame.take(picked), truths[picked]
    refused = offences(frame, schema)
    if refused:
        raise CannotPack(f"{len(refused)} rows of the holdout would be refused, the first for: {_first(refused)}")
    try:
        parts = [asked.predict(frame.take(slice(at, at + _CHUNK))) for at in range(0, frame.rows, _CHUNK)]
    except Failed as error:
        raise CannotPack(f"the estimator does not answer the holdout: {error}") from error
    answers = {output.name: np.concatenate([part[output.name] for part in parts]) for output in schema.outputs}
    document = {"label": _plain(truths), "answers": {name: _plain(each) for name, each in answers.items()}}
    return json.dumps(document, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def _pair(holdout: Any) -> tuple[Any, Array]:
    if not isinstance(holdout, tuple | list) or len(holdout) != 2:
        raise CannotPack("holdout is a pair: rows as the sample has them, and what was true of each")
    inputs, given = holdout
    truths = np.asarray(given.to_numpy() if hasattr(given, "to_numpy") else given)
    if truths.ndim != 1:
        raise CannotPack(f"the truths of the holdout have {truths.ndim} dimensions; one value a row is needed")
    if any(each is None or each != each for each in truths.tolist()):
        raise CannotPack("a truth of the holdout is missing; leave out rows that have none")
    return inputs, truths


def _first(refused: Any) -> str:
    return str(next(iter(refused.values()))) if hasattr(refused, "values") else str(next(iter(refused)))


def _plain(values: Array) -> list[Any]:
    """As JSON has it."""
    if values.dtype.kind == "f":
        found: list[Any] = _without_nan(values.tolist())
        return found
    return [each.item() if isinstance(each, np.generic) else each for each in values.tolist()]


def _without_nan(values: Any) -> Any:
    if isinstance(values, list):
        return [_without_nan(each) for each in values]
    return values if np.isfinite(values) else None
