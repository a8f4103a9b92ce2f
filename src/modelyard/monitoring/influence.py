"""How much each input moves the score: asked of the model itself where it is compiled, else read off its answers.

Of the golden rows that were drawn from the sample, one column at a time is taken from other rows; how far the answers
then move is its influence (permutation importance, Breiman 2001, "Random forests", of answers instead of errors, so
that no labels are needed). A native model is not started for that: its recorded answers say, column by column, which
part of their variance goes with it (the correlation ratio, less what chance explains: Hays' omega squared).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from modelyard.bundle.drawing import SAMPLE
from modelyard.bundle.layout import Bundle
from modelyard.bundle.runtimes import open_compiled
from modelyard.domain.frame import Answers, Array, Frame, Vector
from modelyard.domain.schema import Schema
from modelyard.errors import ModelyardError

_TIMES = 6
"""So often each column is taken from other rows."""

_GROUPS = 8
_LEAST_ROWS = 8


def influence(bundle: Bundle) -> dict[str, float]:
    """The part that each plain input has; they add up to one. Empty where nothing can be said.

    An input that is an array counts as one.
    """
    golden, schema = bundle.golden(), bundle.manifest.schema
    rows = [row for row in golden.answered() if golden.origins[row] == SAMPLE]
    if len(rows) < _LEAST_ROWS:
        return {}
    frame = golden.inputs.take(rows)
    if bundle.manifest.runtime == "onnx":
        runtime = open_compiled(bundle)
        try:
            return moved_by(frame, runtime.predict, schema)
        except ModelyardError:
            pass  # such as a value in a place where it is refused: the recorded answers say something too
        finally:
            runtime.close()
    answers = {name: array[rows] for name, array in golden.single.items()}
    return explained_by(frame, score(answers, schema))


def moved_by(frame: Frame, predict: Callable[[Frame], Answers], schema: Schema) -> dict[str, float]:
    """By how much answers move on average when a column is taken from other rows, as parts of one."""
    before = score(predict(frame), schema)
    draw = np.random.default_rng(20)  # the same each time: it is a property of the version
    found: dict[str, float] = {}
    for name in frame.columns:
        apart = 0.0
        for _ in range(_TIMES):
            order = draw.permutation(frame.rows)
            columns = dict(frame.columns) | {name: frame[name].take(order)}
            apart += float(np.abs(score(predict(Frame(columns, frame.rows)), schema) - before).mean())
        found[name] = apart
    return _parts(found)


def explained_by(frame: Frame, scores: Array) -> dict[str, float]:
    """Which part of the variance of the scores goes with each column, as parts of one.

    >>> frame = Frame({"a": Vector(np.arange(80.0)), "b": Vector(np.arange(80.0) % 2)}, 80)
    >>> found = explained_by(frame, np.arange(80.0)[:, None])
    >>> found["a"] > 0.9
    True
    """
    return _parts({name: _explained(_groups(vector), scores) for name, vector in frame.columns.items()})


def score(answers: Answers, schema: Schema) -> Array:
    """What is taken for the score: probabilities, else decision scores or numbers, else classes as 0 and 1."""
    for role in ("probability", "score", "value"):
        for output in schema.outputs:
            if output.role == role and output.name in answers:
                values = answers[output.name]
                return np.asarray(np.nan_to_num(values.reshape(len(values), -1).astype(np.float64)))
    for output in schema.outputs:
        if output.name in answers and answers[output.name].ndim == 1:
            values = answers[output.name].astype(str)
            return np.asarray(values[:, None] == np.unique(values)[None, :], dtype=np.float64)
    return np.zeros((len(next(iter(answers.values()))), 1))


def _groups(vector: Vector) -> Array:
    """Numbers by size in eight groups of equal size, other values each their own; what is missing is one."""
    values, gone = (each.reshape(len(each), -1)[:, 0] for each in (vector.values, vector.is_missing()))
    if values.dtype.kind in "iufM":
        order = np.argsort(np.argsort(values, kind="stable"), kind="stable") * _GROUPS // max(len(values), 1)
        if len(np.unique(values[~gone])) <= _GROUPS:
            order = np.unique(values, return_inverse=True)[1]
    else:
        order = np.unique(values.astype(str), return_inverse=True)[1]
    return np.where(gone, -1, order)


def _explained(groups: Array, scores: Array) -> float:
    """Omega squared of the scores by groups, of all columns of the scores together; at least 0."""
    names, of, counts = np.unique(groups, return_inverse=True, return_counts=True)
    rows, many = len(groups), len(names)
    total = float(((scores - scores.mean(axis=0)) ** 2).sum())
    if many < 2 or rows <= many or total <= 0:
        return 0.0
    means = np.zeros((many, scores.shape[1]))
    np.add.at(means, of, scores)
    means /= counts[:, None]
    between = float((counts[:, None] * (means - scores.mean(axis=0)) ** 2).sum())
    within = (total - between) / (rows - many)
    return max(0.0, (between - (many - 1) * within) / (total + within))


def _parts(found: Mapping[str, float]) -> dict[str, float]:
    whole = sum(found.values())
    return {name: value / whole for name, value in found.items()} if whole > 0 else {}
